#!/bin/sh
# Print the given files as the C table that web.h declares: web_files.sh FILE...
set -eu

content_type() {
    case $1 in
    *.html) echo "text/html; charset=utf-8" ;;
    *.css) echo "text/css; charset=utf-8" ;;
    *.js) echo "text/javascript; charset=utf-8" ;;
    *.svg) echo "image/svg+xml" ;;
    *)
        echo "$0: $1: what is its content type?" >&2
        exit 1
        ;;
    esac
}

printf '#include "web.h"\n\n'
n=0
entries=
for file in "$@"; do
    type=$(content_type "$file")
    name=$(basename "$file")
    [ "$name" != index.html ] || name=
    printf 'static const unsigned char file_%d[] = {\n' "$n"
    od -An -v -tu1 "$file" | sed 's/  */,/g; s/^,//; s/$/,/'
    printf '};\n\n'
    entries="$entries    {\"/$name\", \"$type\", file_$n, sizeof file_$n},
"
    n=$((n + 1))
done
printf 'const struct tower_web_file tower_web_files[] = {\n%s    {0},\n};\n' "$entries"
