/* load.c - many listeners at once, for the benchmarks: counts what each gets, and when.
 *
 * One thread, one epoll. Data is dropped in the kernel (MSG_TRUNC), so that the load costs the
 * machine little beside the server it measures. Source addresses go round in 127.0.0.0/8, so that
 * ports last. The result is one JSON object on stdout.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S INT64_C(1000000000)
#define NS_PER_MS INT64_C(1000000)
#define EVENTS 1024
#define HEADER_BYTES 2048
/* Listeners from one source address; the ephemeral ports of one are some 28,000. */
#define LISTENERS_PER_ADDRESS 4000
#define DROP_BYTES (1 << 20)
/* Of one that never reads: small, so that it is the server's buffer that fills. */
#define STALLED_BUFFER_BYTES 4096
/* A listener whose data ends this long before the window does, or begins so long after it, is one
 * whose rate the whole window judges. */
#define RATE_EDGE_NS (2 * NS_PER_S)

enum state { CONNECTING, READING_HEADER, LISTENING, STALLED, FAILED };

struct listener {
    int fd;
    enum state state;
    bool is_stalled; /* never reads */
    int64_t connect_ns;
    int64_t first_byte_ns; /* of audio; 0: none yet */
    int64_t last_byte_ns;
    int64_t longest_gap_ns;  /* within the measured window */
    int64_t window_first_ns; /* its first audio in the window; 0: none yet */
    uint64_t bytes;          /* of audio, within the measured window */
    uint64_t bytes_first;    /* of them, those that came at window_first_ns */
    char *header;            /* while it is being read */
    size_t header_bytes;
};

struct settings {
    const char *address;
    uint16_t port;
    const char *path;
    long listeners;
    long stalled;      /* of them, that never read */
    double per_second; /* connections made */
    double settle_s;   /* from the last connection to the measured window */
    double seconds;    /* of the window */
};

struct load {
    struct settings settings;
    int epoll_fd;
    struct listener *listeners;
    long n_made;
    bool is_measuring;
    int64_t window_begin_ns;
    int64_t window_cpu_ns;   /* what we had used when it began */
    int64_t longest_turn_ns; /* within the window: no arrival is told more exactly than this */
    uint64_t refused;        /* connections, or answers other than 200 */
    uint64_t broken;         /* ended by the server, of those that read */
    uint64_t stalled_dropped;
    int first_errno;
    char first_answer[64];
};

static int64_t now_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

/* CPU time of this process, of which there is one thread. */
static int64_t cpu_ns(void) {
    struct timespec used;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (int64_t)used.tv_sec * NS_PER_S + used.tv_nsec;
}

static void die(const char *what, const char *why) {
    (void)fprintf(stderr, "load: %s: %s\n", what, why);
    exit(1);
}

static void drop(struct load *load, struct listener *listener, bool was_refused, int error) {
    if (was_refused)
        load->refused++;
    else if (listener->is_stalled)
        load->stalled_dropped++;
    else
        load->broken++;
    if (error && !load->first_errno)
        load->first_errno = error;
    if (listener->fd >= 0)
        (void)close(listener->fd);
    free(listener->header);
    listener->header = NULL;
    listener->fd = -1;
    listener->state = FAILED;
}

static void watch(struct load *load, struct listener *listener, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = listener};
    if (epoll_ctl(load->epoll_fd, operation, listener->fd, &event) < 0)
        die("epoll_ctl", strerror(errno));
}

static void connect_one(struct load *load, long i) {
    struct listener *listener = &load->listeners[i];
    uint32_t source = 0x7f000002U + (uint32_t)(i / LISTENERS_PER_ADDRESS);
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr = {htonl(source)}};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(load->settings.port)};
    int one = 1;
    if (inet_pton(AF_INET, load->settings.address, &to.sin_addr) != 1)
        die(load->settings.address, "not an IPv4 address");
    *listener = (struct listener){.fd = -1, .connect_ns = now_ns()};
    listener->is_stalled = i < load->settings.stalled;
    load->n_made++;
    listener->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener->fd < 0)
        die("socket", strerror(errno));
    (void)setsockopt(listener->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (listener->is_stalled) {
        int bytes = STALLED_BUFFER_BYTES;
        (void)setsockopt(listener->fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    }
    if (bind(listener->fd, (struct sockaddr *)&from, sizeof from) < 0)
        die("bind", strerror(errno));
    if (connect(listener->fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS) {
        drop(load, listener, true, errno);
        return;
    }
    watch(load, listener, EPOLL_CTL_ADD, EPOLLOUT);
}

static void send_request(struct load *load, struct listener *listener) {
    char request[512];
    int error = 0;
    socklen_t size = sizeof error;
    (void)getsockopt(listener->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) {
        drop(load, listener, true, error);
        return;
    }
    (void)snprintf(request, sizeof request, "GET %s HTTP/1.0\r\nHost: %s:%u\r\n\r\n",
                   load->settings.path, load->settings.address, (unsigned)load->settings.port);
    ssize_t sent = send(listener->fd, request, strlen(request), MSG_NOSIGNAL);
    if (sent != (ssize_t)strlen(request)) {
        drop(load, listener, true, errno);
        return;
    }
    listener->header = malloc(HEADER_BYTES + 1);
    if (!listener->header)
        die("malloc", "no memory");
    listener->state = READING_HEADER;
    watch(load, listener, EPOLL_CTL_MOD, EPOLLIN);
}

static void note_audio(struct load *load, struct listener *listener, size_t bytes) {
    int64_t now = now_ns();
    if (listener->first_byte_ns == 0)
        listener->first_byte_ns = now;
    if (load->is_measuring) {
        int64_t since_ns = listener->last_byte_ns > load->window_begin_ns ? listener->last_byte_ns
                                                                          : load->window_begin_ns;
        if (now - since_ns > listener->longest_gap_ns)
            listener->longest_gap_ns = now - since_ns;
        listener->bytes += bytes;
        if (listener->window_first_ns == 0) {
            listener->window_first_ns = now;
            listener->bytes_first = bytes;
        }
    }
    listener->last_byte_ns = now;
}

static void read_header(struct load *load, struct listener *listener) {
    ssize_t n = recv(listener->fd, listener->header + listener->header_bytes,
                     HEADER_BYTES - listener->header_bytes, 0);
    if (n <= 0) {
        if (n == 0 || errno != EAGAIN)
            drop(load, listener, true, n == 0 ? 0 : errno);
        return;
    }
    listener->header_bytes += (size_t)n;
    listener->header[listener->header_bytes] = '\0';
    const char *end = strstr(listener->header, "\r\n\r\n");
    if (!end) {
        if (listener->header_bytes == HEADER_BYTES)
            drop(load, listener, true, 0);
        return;
    }
    if (!strstr(listener->header, " 200 ")) {
        if (!load->first_answer[0])
            (void)snprintf(load->first_answer, sizeof load->first_answer, "%.*s",
                           (int)strcspn(listener->header, "\r\n"), listener->header);
        drop(load, listener, true, 0);
        return;
    }
    size_t audio_bytes = listener->header_bytes - (size_t)(end + 4 - listener->header);
    free(listener->header);
    listener->header = NULL;
    listener->state = listener->is_stalled ? STALLED : LISTENING;
    if (audio_bytes > 0)
        note_audio(load, listener, audio_bytes);
    /* Edge-triggered: one call takes all there is, and what comes later is news again. */
    watch(load, listener, EPOLL_CTL_MOD, listener->is_stalled ? 0 : EPOLLIN | EPOLLRDHUP | EPOLLET);
}

static void read_audio(struct load *load, struct listener *listener, uint32_t events) {
    static char unused[1];
    ssize_t n;
    do {
        n = recv(listener->fd, unused, DROP_BYTES, MSG_TRUNC | MSG_DONTWAIT);
        if (n > 0)
            note_audio(load, listener, (size_t)n);
    } while (n > 0 && (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)));
    if (n == 0 || (n < 0 && errno != EAGAIN))
        drop(load, listener, false, n == 0 ? 0 : errno);
}

static void handle(struct load *load, struct listener *listener, uint32_t events) {
    switch (listener->state) {
    case CONNECTING:
        send_request(load, listener);
        break;
    case READING_HEADER:
        read_header(load, listener);
        break;
    case LISTENING:
        read_audio(load, listener, events);
        break;
    case STALLED:
        if (events & (EPOLLHUP | EPOLLERR))
            drop(load, listener, false, 0);
        break;
    case FAILED:
        break;
    }
}

/* Make connections that are due and handle events until `until_ns`. */
static void run_until(struct load *load, int64_t begin_ns, int64_t until_ns) {
    static struct epoll_event events[EVENTS];
    const struct settings *settings = &load->settings;
    for (;;) {
        int64_t now = now_ns();
        if (now >= until_ns)
            return;
        double due = (double)(now - begin_ns) / (double)NS_PER_S * settings->per_second;
        while (load->n_made < settings->listeners && (double)load->n_made <= due)
            connect_one(load, load->n_made);
        int timeout_ms = load->n_made < settings->listeners ? 1 : 20;
        int n = epoll_wait(load->epoll_fd, events, EVENTS, timeout_ms);
        int64_t began_ns = now_ns();
        for (int i = 0; i < n; i++)
            handle(load, events[i].data.ptr, events[i].events);
        int64_t took_ns = now_ns() - began_ns;
        if (load->is_measuring && took_ns > load->longest_turn_ns)
            load->longest_turn_ns = took_ns;
    }
}

static int compare(const void *a, const void *b) {
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

/* Print quantiles of `n` values; sorts them. */
static void print_quantiles(const char *name, double *values, size_t n) {
    static const double wanted[] = {0, 0.5, 0.99, 1};
    static const char *const names[] = {"min", "p50", "p99", "max"};
    qsort(values, n, sizeof *values, compare);
    (void)printf(", \"%s\": {", name);
    for (int i = 0; i < 4; i++) {
        size_t at = n == 0 ? 0 : (size_t)(wanted[i] * (double)(n - 1));
        (void)printf("%s\"%s\": %.3f", i ? ", " : "", names[i], n == 0 ? -1.0 : values[at]);
    }
    (void)printf("}");
}

/* Bytes a second from the first to the last arrival in the window, so that where the window cuts
 * between two sends makes no difference. */
static double rate_of(const struct load *load, const struct listener *listener, int64_t end_ns) {
    int64_t first_ns = listener->window_first_ns, last_ns = listener->last_byte_ns;
    if (listener->bytes == 0)
        return 0;
    if (last_ns == first_ns || first_ns - load->window_begin_ns > RATE_EDGE_NS ||
        end_ns - last_ns > RATE_EDGE_NS)
        return (double)listener->bytes * (double)NS_PER_S /
               (double)(end_ns - load->window_begin_ns);
    return (double)(listener->bytes - listener->bytes_first) * (double)NS_PER_S /
           (double)(last_ns - first_ns);
}

static void report(struct load *load) {
    long n = load->settings.listeners;
    size_t n_first = 0, n_gap = 0;
    long silent = 0, starved = 0;
    uint64_t bytes = 0;
    double *first_ms = calloc((size_t)n, sizeof *first_ms);
    double *gap_ms = calloc((size_t)n, sizeof *gap_ms);
    double *rate = calloc((size_t)n, sizeof *rate);
    if (!first_ms || !gap_ms || !rate)
        die("calloc", "no memory");
    int64_t end_ns = now_ns();
    double window_s = (double)(end_ns - load->window_begin_ns) / (double)NS_PER_S;
    double cpu_percent =
        100 * (double)(cpu_ns() - load->window_cpu_ns) / (double)(end_ns - load->window_begin_ns);
    for (long i = 0; i < n; i++) {
        struct listener *listener = &load->listeners[i];
        if (listener->is_stalled)
            continue;
        if (listener->first_byte_ns)
            first_ms[n_first++] =
                (double)(listener->first_byte_ns - listener->connect_ns) / (double)NS_PER_MS;
        else
            silent++;
        if (listener->state != LISTENING)
            continue;
        /* A gap that is still open counts too. */
        int64_t since_ns = listener->last_byte_ns > load->window_begin_ns ? listener->last_byte_ns
                                                                          : load->window_begin_ns;
        if (end_ns - since_ns > listener->longest_gap_ns)
            listener->longest_gap_ns = end_ns - since_ns;
        starved += listener->bytes == 0;
        bytes += listener->bytes;
        rate[n_gap] = rate_of(load, listener, end_ns);
        gap_ms[n_gap++] = (double)listener->longest_gap_ns / (double)NS_PER_MS;
    }
    (void)printf("{\"listeners\": %ld, \"listening\": %zu, \"stalled\": %ld, \"refused\": %" PRIu64
                 ", \"broken\": %" PRIu64 ", \"stalled_dropped\": %" PRIu64
                 ", \"without_a_byte\": %ld, \"starved\": %ld, "
                 "\"window_s\": %.3f, \"bytes\": %" PRIu64
                 ", \"load_cpu_percent\": %.1f, \"load_turn_ms\": %.1f, "
                 "\"first_errno\": %d, \"first_answer\": \"%s\"",
                 n, n_gap, load->settings.stalled, load->refused, load->broken,
                 load->stalled_dropped, silent, starved, window_s, bytes, cpu_percent,
                 (double)load->longest_turn_ns / (double)NS_PER_MS, load->first_errno,
                 load->first_answer);
    print_quantiles("first_byte_ms", first_ms, n_first);
    print_quantiles("longest_gap_ms", gap_ms, n_gap);
    print_quantiles("bytes_per_s", rate, n_gap);
    (void)printf("}\n");
    free(first_ms);
    free(gap_ms);
    free(rate);
}

static double number(const char *flag, const char *text, double least) {
    char *end;
    double value = strtod(text, &end);
    if (*end || end == text || !(value >= least) || value > 1e6) {
        (void)fprintf(stderr, "load: --%s %s: expected a number from %g\n", flag, text, least);
        exit(2);
    }
    return value;
}

static void parse(struct settings *settings, int argc, char **argv) {
    enum { ADDRESS = 1, PORT, PATH, LISTENERS, STALLED_LISTENERS, PER_SECOND, SETTLE, SECONDS };
    static const struct option options[] = {
        {"address", required_argument, NULL, ADDRESS},
        {"port", required_argument, NULL, PORT},
        {"path", required_argument, NULL, PATH},
        {"listeners", required_argument, NULL, LISTENERS},
        {"stalled", required_argument, NULL, STALLED_LISTENERS},
        {"per-second", required_argument, NULL, PER_SECOND},
        {"settle", required_argument, NULL, SETTLE},
        {"seconds", required_argument, NULL, SECONDS},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int index = 0;
    for (int c; (c = getopt_long(argc, argv, "h", options, &index)) != -1;) {
        const char *name = c == 'h' || c == '?' ? "" : options[index].name;
        switch (c) {
        case ADDRESS:
            settings->address = optarg;
            break;
        case PORT:
            settings->port = (uint16_t)number(name, optarg, 1);
            break;
        case PATH:
            settings->path = optarg;
            break;
        case LISTENERS:
            settings->listeners = (long)number(name, optarg, 1);
            break;
        case STALLED_LISTENERS:
            settings->stalled = (long)number(name, optarg, 0);
            break;
        case PER_SECOND:
            settings->per_second = number(name, optarg, 1);
            break;
        case SETTLE:
            settings->settle_s = number(name, optarg, 0);
            break;
        case SECONDS:
            settings->seconds = number(name, optarg, 0.1);
            break;
        default:
            (void)fprintf(c == 'h' ? stdout : stderr,
                          "usage: load --port N [--address 127.0.0.1] [--path /stream] "
                          "[--listeners 100]\n"
                          "            [--stalled 0] [--per-second 1000] [--settle 3] "
                          "[--seconds 10]\n");
            exit(c == 'h' ? 0 : 2);
        }
    }
    if (settings->port == 0 || optind < argc) {
        (void)fprintf(stderr, "load: --port is needed, and nothing but flags; see --help\n");
        exit(2);
    }
}

int main(int argc, char **argv) {
    static struct load load = {.settings = {.address = "127.0.0.1",
                                            .path = "/stream",
                                            .listeners = 100,
                                            .per_second = 1000,
                                            .settle_s = 3,
                                            .seconds = 10}};
    struct rlimit limit;
    parse(&load.settings, argc, argv);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    load.listeners = calloc((size_t)load.settings.listeners, sizeof *load.listeners);
    load.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (!load.listeners || load.epoll_fd < 0)
        die("starting", strerror(errno));

    int64_t begin_ns = now_ns();
    double ramp_s = (double)load.settings.listeners / load.settings.per_second;
    int64_t measure_ns = begin_ns + (int64_t)((ramp_s + load.settings.settle_s) * (double)NS_PER_S);
    run_until(&load, begin_ns, measure_ns);
    load.is_measuring = true;
    load.window_cpu_ns = cpu_ns();
    load.window_begin_ns = now_ns();
    /* Whoever runs us measures the server from here on. */
    (void)fprintf(stderr, "measuring\n");
    run_until(&load, begin_ns,
              load.window_begin_ns + (int64_t)(load.settings.seconds * (double)NS_PER_S));
    report(&load);
    return 0;
}
