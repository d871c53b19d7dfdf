/* routes_password.c - who may do what needs a password. */
#include "routes.h"

#include "tower/log.h"

#include <arpa/inet.h>
#include <stdio.h>

#define NS_PER_S INT64_C(1000000000)

static int ask_for_password(const struct tower_response_options *options,
                            struct tower_response *response) {
    struct tower_response_options ask = *options;
    ask.extra = "WWW-Authenticate: Basic realm=\"Tower\", charset=\"UTF-8\"\r\n";
    return tower_response_make_text(
        response, 401, &ask,
        "401 Unauthorized: give the password by HTTP's Basic scheme; with any user name, unless it "
        "is a user's own\n");
}

static int tell_to_wait(const struct tower_response_options *options,
                        struct tower_response *response, int64_t wait_ns) {
    struct tower_response_options later = *options;
    char extra[64];
    long long seconds = (long long)((wait_ns + NS_PER_S - 1) / NS_PER_S);
    (void)snprintf(extra, sizeof extra, "Retry-After: %lld\r\n", seconds);
    later.extra = extra;
    return tower_response_make_text(response, 429, &later,
                                    "429 Too Many Requests: a wrong password came from this "
                                    "address; no other is looked at for %lld s\n",
                                    seconds);
}

static void log_wrong_password(const struct tower_request *request, int64_t hold_ns) {
    char address[INET6_ADDRSTRLEN] = "an unknown address";
    const struct sockaddr *peer = request->peer;
    if (peer->sa_family == AF_INET)
        (void)inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)peer)->sin_addr,
                        address, sizeof address);
    else if (peer->sa_family == AF_INET6)
        (void)inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)(const void *)peer)->sin6_addr,
                        address, sizeof address);
    tower_log(TOWER_LOG_WARNING, "http", "a wrong password from %s; its answer waits %.0f s",
              address, (double)hold_ns / (double)NS_PER_S);
}

enum tower_routes_access tower_routes_check_password(
    struct tower_routes *routes, const struct tower_request *request, const char *password,
    const struct tower_source_users *users, const struct tower_response_options *options,
    struct tower_response *response, const struct tower_source_user **ret_user, int *ret_error) {
    struct tower_request_login login;
    int64_t now_ns = tower_clock_now_ns(routes->config->clock);
    /* Some clients ask without one first, to see whether they need it. */
    if (!tower_request_login(request, &login)) {
        *ret_error = ask_for_password(options, response);
        return TOWER_ACCESS_ASKED;
    }
    int64_t wait_ns = tower_password_guard_wait_ns(&routes->guard, request->peer, now_ns);
    if (wait_ns > 0) {
        *ret_error = tell_to_wait(options, response, wait_ns);
        return TOWER_ACCESS_HELD;
    }
    const struct tower_source_user *user =
        users ? tower_source_users_find(users, &login.given) : NULL;
    bool is_password =
        password && tower_password_is(password, login.given.password, login.given.password_bytes);
    if (user || is_password) {
        tower_password_guard_right(&routes->guard, request->peer);
        if (ret_user)
            *ret_user = is_password ? NULL : user;
        return TOWER_ACCESS_GRANTED;
    }
    int64_t hold_ns = tower_password_guard_wrong(&routes->guard, request->peer, now_ns);
    log_wrong_password(request, hold_ns);
    *ret_error = ask_for_password(options, response);
    response->hold_ns = hold_ns;
    return TOWER_ACCESS_WRONG;
}
