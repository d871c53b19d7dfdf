# The stages of ./test, and how their results are added up. Sourced by ../test, from the root.

results=build/test-results

start_stages() {
    rm -rf "$results"
    mkdir -p "$results"
    began=$(date +%s)
    : >"$results/counts"
    # Of itself, UBSan as gcc has it says what it finds and goes on.
    export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
}

# count PASSED FAILED: add to the sum.
count() {
    echo "$1 $2" >>"$results/counts"
}

# stage NAME COMMAND...: one thing that passes or fails; its output is shown when it fails.
stage() {
    stage_name=$1
    shift
    stage_began=$(date +%s)
    if "$@" >"$results/stage.log" 2>&1; then
        count 1 0
        echo "ok      $stage_name ($(($(date +%s) - stage_began)) s)"
    else
        count 0 1
        cat "$results/stage.log"
        echo "FAILED  $stage_name"
    fi
}

finish_stages() {
    awk '{ passed += $1; failed += $2 }
         END { exit_code = failed > 0 || passed == 0
               printf "%d passed, %d failed\n", passed, failed > "/dev/stderr"
               exit exit_code }' "$results/counts" 2>"$results/sum" && sum_status=0 || sum_status=1
    echo "in $(($(date +%s) - began)) s"
    cat "$results/sum"
    exit "$sum_status"
}

# build NAME MESON_OPTION...: build/NAME with every warning an error.
build() {
    build_name=$1
    shift
    if [ ! -f "build/$build_name/build.ninja" ]; then
        meson setup "build/$build_name" . "$@" -Dwerror=true -Dtests=true || return 1
    fi
    meson configure "build/$build_name" -Dwerror=true -Dtests=true || return 1
    ninja -C "build/$build_name"
}

build_clang() {
    CC=clang build clang --buildtype=debugoptimized
}

check_format() {
    git ls-files -co --exclude-standard '*.c' '*.h' | xargs clang-format --dry-run -Werror
}

lint() {
    git ls-files -co --exclude-standard 'src/*.c' 'examples/*.c' 'bench/*.c' |
        xargs -P "$(nproc)" -n 4 clang-tidy -p build/clang --quiet || return 1
    mandoc -T lint -W warning man/tower.1
}

# The units as they would be installed: whole, and with little to gain for whoever breaks in (2.0, an
# "OK", at most).
check_units() {
    systemd-analyze security --offline=true --threshold=20 packaging/tower.service || return 1
    units=$results/units
    rm -rf "$units"
    mkdir -p "$units/etc"
    cp packaging/tower.socket "$units"
    sed "s|/usr/local/bin/tower|$PWD/build/release/tower|" packaging/tower.service >"$units/tower.service"
    systemd-analyze verify --man=no --recursive-errors=no "$units/tower.service" "$units/tower.socket" \
        >"$units/log" 2>&1 || { cat "$units/log"; return 1; }
    # What it only warns of, such as a key that it does not know, is an error of ours.
    ! grep . "$units/log" || return 1
    systemd-sysusers --root="$PWD/$units" "$PWD/packaging/tower.sysusers" &&
        grep -q '^tower:' "$units/etc/passwd" && grep -q '^tower-feed:' "$units/etc/group"
}

# Which C tests also run under ThreadSanitizer: those with threads of their own.
tsan_tests='test_tower_audio_input_router test_tower_audiopump test_frame_ring test_clock test_log
    test_pcm_titles test_title_schedule
    test_air test_fanout test_fallback test_pcm_socket test_encoder_manager test_http_server
    test_service test_journal test_incidents test_addresses test_titles test_fanout_ends
    test_fanout_titles test_http_routes test_http_events test_heritage test_takeover
    test_takeover_limits test_source_requests'

# run_c_tests BUILD: run the test programs of build/BUILD, as many at once as there are cores, and
# count the tests in them.
run_c_tests() {
    c_tests_of "$1" | xargs -P "$(nproc)" -I '{}' sh -c '. tests/stages.sh; run_c_test "$1" "$2"' - "$1" '{}'
}

c_tests_of() {
    for program in build/"$1"/tests/contracts/test_* build/"$1"/tests/unit/test_*; do
        [ -x "$program" ] && [ -f "$program" ] || continue
        name=$(basename "$program")
        case $1:" $(echo $tsan_tests) " in
        tsan:*" $name "*) ;;
        tsan:*) continue ;;
        esac
        echo "$program"
    done
}

run_c_test() {
    output=$results/$1-$(basename "$2").log
    test_began=$(date +%s)
    status=0
    # A test that hangs has failed; the limit is many times what any of them takes.
    CMOCKA_MESSAGE_OUTPUT=TAP \
        TSAN_OPTIONS="halt_on_error=0 exitcode=66" \
        timeout -k 5 240 "$2" >"$output" 2>&1 || status=$?
    passed=$(grep -c '^ok ' "$output" || true)
    failed=$(grep -c '^not ok ' "$output" || true)
    # A program that ended badly without naming a test: a crash, a sanitizer, a limit.
    [ "$status" -eq 0 ] || [ "$failed" -gt 0 ] || failed=1
    [ "$passed" -gt 0 ] || [ "$failed" -gt 0 ] || failed=1
    count "$passed" "$failed"
    if [ "$failed" -eq 0 ]; then
        echo "ok      $1/$(basename "$2"): $passed tests ($(($(date +%s) - test_began)) s)"
    else
        cat "$output"
        echo "FAILED  $1/$(basename "$2"): $failed of $((passed + failed)), exit code $status"
    fi
}

# run_suite NAME SECONDS COMMAND...: run tests that print "ok NAME" and at the end "N passed, N failed", and count them.
run_suite() {
    suite=$1
    output=$results/$suite.log
    limit=$2
    shift 2
    timeout -k 10 "$limit" env "$@" >"$output" 2>&1 || true
    sum=$(grep -E '^[0-9]+ passed, [0-9]+ failed' "$output" | tail -n 1)
    if [ -z "$sum" ]; then
        cat "$output"
        echo "FAILED  $suite: it did not come to its end"
        count 0 1
        return
    fi
    set -- $sum
    count "$1" "$3"
    if [ "$3" -eq 0 ]; then
        grep -E '^ok ' "$output" | sed 's/^ok /ok     /'
    else
        cat "$output"
    fi
    echo "$suite: $sum"
}

run_integration_tests() {
    run_suite integration 900 TOWER="$PWD/build/asan/tower" TOWER_RELEASE="$PWD/build/release/tower" \
        BUILD="$PWD/build/asan" tests/integration/run
}

# Each target for FUZZ_SECONDS, or 20 seconds; two at a time.
run_fuzz_targets() {
    echo "fuzz: ${FUZZ_SECONDS:-20} seconds a target; FUZZ_SECONDS=N makes it another time"
    run_suite fuzz $((600 + 20 * ${FUZZ_SECONDS:-20})) tests/fuzz/run --seconds "${FUZZ_SECONDS:-20}"
}

# The program whose allocations can be made to fail, with UBSan: glibc's own malloc lies beneath.
build_failing_malloc() {
    build alloc --buildtype=debugoptimized -Db_sanitize=undefined -Dinject_alloc_failures=true
}

run_faults() {
    run_suite faults 600 TOWER="$PWD/build/release/tower" BUILD="$PWD/build/release" \
        TOWER_ALLOC="$PWD/build/alloc/tower" tests/faults/run --seed 1 --seconds 8
}

run_browser_tests() {
    run_suite browser 300 TOWER="$PWD/build/release/tower" tests/browser/run
}

# simulate BUILD OPTION...: the simulated station; its log ends with the seeds.
simulate() {
    simulated=build/$1/tests/sim/sim
    shift
    timeout -k 10 1200 "$simulated" "$@"
}

# Shown as it runs.
simulate_year() {
    if build/release/tests/sim/sim --seed "$(date +%s)" --seeds 365 --all; then
        count 1 0
    else
        count 0 1
    fi
}

run_mutations() {
    run_suite mutations 1800 tests/mutations/run
}

idle() {
    TOWER=$PWD/build/release/tower bench/idle --memory 10
}
