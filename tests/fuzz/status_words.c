/* status_words.c - `tower status` shows any JSON whatever, and nothing in it steers the terminal.
 */
#include "../../src/cli/cmd_status.c"

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    json_error_t error;
    json_t *json = json_loadb((const char *)data, bytes, 0, &error);
    if (json_is_object(json)) {
        char *text = NULL;
        size_t text_bytes = 0;
        FILE *terminal = stdout;
        stdout = open_memstream(&text, &text_bytes);
        FUZZ_REQUIRE(stdout);
        print_words(json);
        FUZZ_REQUIRE(fclose(stdout) == 0);
        stdout = terminal;
        for (const char *line = text; *line != '\0'; line += strcspn(line, "\n") + 1) {
            FUZZ_REQUIRE(strchr(line, '\n'));
            FUZZ_REQUIRE(fuzz_is_plain(line, strcspn(line, "\n")));
        }
        free(text);
    }
    json_decref(json);
    return 0;
}
