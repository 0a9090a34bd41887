/* A mock provider for measuring gateways: HTTP/1.1, one thread, epoll.
 *
 *   cc -O2 -o mock_upstream mock_upstream.c && ./mock_upstream PORT
 *
 * Routes, by the end of the path: /chat/completions, /completions, /embeddings, /messages, /models and
 * /stats. Knobs, weakest first: the environment's MOCK_LATENCY_MS, MOCK_CHUNKS, MOCK_CHUNK_MS; the request
 * headers x-mock-latency-ms, x-mock-chunks, x-mock-chunk-ms; a model name that holds
 * mock-l<ms>-c<chunks>-d<ms>. The content of each streamed delta is " @<CLOCK_MONOTONIC in ns when it was
 * sent>", so that a client on the same machine can compute the relay delay of every token.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

typedef struct {
    int fd, hp; /* hp: index in the timer heap, -1 for none */
    char *in;
    size_t in_n, in_cap;
    char *out;
    size_t out_n, out_off, out_cap;
    int busy; /* a reply is in progress (latency or stream) */
    int kind, stream, usage, pos, chunks;
    long chunk_ns;
    int64_t due;
} conn;
enum { K_CHAT, K_EMB, K_MSG, K_MODELS, K_STATS, K_404, K_COMP };
static conn *conns[1 << 16];
static int ep;
static conn *heap[1 << 16];
static int hn;
static long d_lat, d_chunks = 20, d_chunkms;
static uint64_t n_req, n_call, n_conn, n_stream, n_open;

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}
static void hswap(int a, int b) {
    conn *t = heap[a];
    heap[a] = heap[b];
    heap[b] = t;
    heap[a]->hp = a;
    heap[b]->hp = b;
}
static void hup(int i) {
    while (i && heap[(i - 1) / 2]->due > heap[i]->due) {
        hswap(i, (i - 1) / 2);
        i = (i - 1) / 2;
    }
}
static void hdown(int i) {
    for (;;) {
        int l = 2 * i + 1, m = i;
        if (l < hn && heap[l]->due < heap[m]->due)
            m = l;
        if (l + 1 < hn && heap[l + 1]->due < heap[m]->due)
            m = l + 1;
        if (m == i)
            return;
        hswap(i, m);
        i = m;
    }
}
static void hpush(conn *c) {
    heap[hn] = c;
    c->hp = hn;
    hup(hn++);
}
static void hdel(conn *c) {
    int i = c->hp;
    if (i < 0)
        return;
    hn--;
    if (i != hn) {
        hswap(i, hn);
        hup(i);
        hdown(i);
    }
    c->hp = -1;
}

static void cclose(conn *c) {
    hdel(c);
    close(c->fd);
    conns[c->fd] = 0;
    free(c->in);
    free(c->out);
    free(c);
    n_open--;
}
static void want(conn *c, int w) {
    struct epoll_event e = {.events = EPOLLIN | (w ? EPOLLOUT : 0), .data.fd = c->fd};
    epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e);
}
static void put(conn *c, const char *s, size_t n) {
    if (c->out_n + n > c->out_cap) {
        c->out_cap = (c->out_n + n) * 2 + 4096;
        c->out = realloc(c->out, c->out_cap);
    }
    memcpy(c->out + c->out_n, s, n);
    c->out_n += n;
}
static int flush(conn *c) { /* -1 dead */
    while (c->out_off < c->out_n) {
        ssize_t k = send(c->fd, c->out + c->out_off, c->out_n - c->out_off, MSG_NOSIGNAL);
        if (k > 0)
            c->out_off += k;
        else if (errno == EAGAIN) {
            want(c, 1);
            return 0;
        } else
            return -1;
    }
    if (c->out_off == c->out_n) {
        if (c->out_n)
            c->out_n = c->out_off = 0;
    }
    return 0;
}
static void put_json(conn *c, const char *status, const char *body, size_t n) {
    char h[256];
    int k = snprintf(h, sizeof h,
                     "HTTP/1.1 %s\r\ncontent-type: application/json\r\nx-request-id: "
                     "req_mock\r\ncontent-length: %zu\r\n\r\n",
                     status, n);
    put(c, h, k);
    put(c, body, n);
}
static void put_chunk(conn *c, const char *s, size_t n) {
    char h[24];
    int k = snprintf(h, sizeof h, "%zx\r\n", n);
    put(c, h, k);
    put(c, s, n);
    put(c, "\r\n", 2);
}

static const char CHAT[] =
    "{\"id\":\"chatcmpl-mock0123456789abcdef\",\"object\":\"chat.completion\",\"created\":1750000000,"
    "\"model\":\"gpt-4o-mini-2024-07-18\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\","
    "\"content\":\"The quick brown fox jumps over the lazy dog. This is a mock completion of a realistic "
    "size, so that the gateway has to relay, and where it does so parse, about one kilobyte of JSON. Paris "
    "is the capital of France; the Seine runs through it; its tower is of iron. Nothing in this text is of "
    "importance to anybody, and it ends "
    "here.\",\"refusal\":null,\"annotations\":[]},\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{"
    "\"prompt_tokens\":412,\"completion_tokens\":73,\"total_tokens\":485,\"prompt_tokens_details\":{\"cached_"
    "tokens\":0,\"audio_tokens\":0},\"completion_tokens_details\":{\"reasoning_tokens\":0,\"audio_tokens\":0,"
    "\"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0}},\"service_tier\":\"default\","
    "\"system_fingerprint\":\"fp_mock\"}";
static const char MSG[] =
    "{\"id\":\"msg_mock0123456789\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-mock\","
    "\"content\":[{\"type\":\"text\",\"text\":\"The quick brown fox jumps over the lazy dog. This is a mock "
    "completion of a realistic size, so that the gateway has to relay, and where it does so parse, a part of "
    "a kilobyte of "
    "JSON.\"}],\"stop_reason\":\"end_turn\",\"stop_sequence\":null,\"usage\":{\"input_tokens\":412,\"cache_"
    "creation_input_tokens\":0,\"cache_read_input_tokens\":0,\"output_tokens\":73}}";
static char EMB[40000];
static size_t EMB_N;
static const char MODELS[] = "{\"object\":\"list\",\"data\":[{\"id\":\"mock\",\"object\":\"model\","
                             "\"created\":1750000000,\"owned_by\":\"mock\"}]}";

/* emits event number c->pos of the stream; returns 1 when the stream is finished */
static int emit(conn *c) {
    char b[1024];
    int k, p = c->pos++;
    int64_t t = now_ns();
    if (c->kind == K_MSG) {
        if (p == 0) {
            k = snprintf(b, sizeof b,
                         "event: message_start\ndata: "
                         "{\"type\":\"message_start\",\"message\":{\"id\":\"msg_mock\",\"type\":\"message\","
                         "\"role\":\"assistant\",\"model\":\"claude-mock\",\"content\":[],\"stop_reason\":"
                         "null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":412,\"output_tokens\":1}}}"
                         "\n\nevent: content_block_start\ndata: "
                         "{\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\","
                         "\"text\":\"\"}}\n\n");
            put_chunk(c, b, k);
        }
        if (p < c->chunks) {
            k = snprintf(b, sizeof b,
                         "event: content_block_delta\ndata: "
                         "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\","
                         "\"text\":\" @%lld\"}}\n\n",
                         (long long)t);
            put_chunk(c, b, k);
            return 0;
        }
        k = snprintf(
            b, sizeof b,
            "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\nevent: "
            "message_delta\ndata: "
            "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},"
            "\"usage\":{\"output_tokens\":%d}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
            c->chunks);
        put_chunk(c, b, k);
        put(c, "0\r\n\r\n", 5);
        return 1;
    }
    if (p < c->chunks) {
        k = snprintf(b, sizeof b,
                     "data: "
                     "{\"id\":\"chatcmpl-mock0123456789abcdef\",\"object\":\"chat.completion.chunk\","
                     "\"created\":1750000000,\"model\":\"gpt-4o-mini-2024-07-18\",\"service_tier\":"
                     "\"default\",\"system_fingerprint\":\"fp_mock\",\"choices\":[{\"index\":0,\"delta\":{%"
                     "s\"content\":\" @%lld\"},\"logprobs\":null,\"finish_reason\":null}]%s}\n\n",
                     p ? "" : "\"role\":\"assistant\",", (long long)t, c->usage ? ",\"usage\":null" : "");
        put_chunk(c, b, k);
        return 0;
    }
    k = snprintf(b, sizeof b,
                 "data: "
                 "{\"id\":\"chatcmpl-mock0123456789abcdef\",\"object\":\"chat.completion.chunk\",\"created\":"
                 "1750000000,\"model\":\"gpt-4o-mini-2024-07-18\",\"choices\":[{\"index\":0,\"delta\":{},"
                 "\"logprobs\":null,\"finish_reason\":\"stop\"}]%s}\n\n",
                 c->usage ? ",\"usage\":null" : "");
    put_chunk(c, b, k);
    if (c->usage) {
        k = snprintf(b, sizeof b,
                     "data: "
                     "{\"id\":\"chatcmpl-mock0123456789abcdef\",\"object\":\"chat.completion.chunk\","
                     "\"created\":1750000000,\"model\":\"gpt-4o-mini-2024-07-18\",\"choices\":[],\"usage\":{"
                     "\"prompt_tokens\":412,\"completion_tokens\":%d,\"total_tokens\":%d}}\n\n",
                     c->chunks, c->chunks + 412);
        put_chunk(c, b, k);
    }
    put_chunk(c, "data: [DONE]\n\n", 14);
    put(c, "0\r\n\r\n", 5);
    return 1;
}

static int handle(conn *c);
static int start_reply(conn *c) { /* after the latency */
    char b[512];
    int k;
    if (!c->stream) {
        switch (c->kind) {
        case K_CHAT:
        case K_COMP:
            put_json(c, "200 OK", CHAT, sizeof CHAT - 1);
            break;
        case K_MSG:
            put_json(c, "200 OK", MSG, sizeof MSG - 1);
            break;
        case K_EMB:
            put_json(c, "200 OK", EMB, EMB_N);
            break;
        case K_MODELS:
            put_json(c, "200 OK", MODELS, sizeof MODELS - 1);
            break;
        case K_STATS:
            k = snprintf(
                b, sizeof b,
                "{\"requests\":%llu,\"calls\":%llu,\"connections\":%llu,\"streams\":%llu,\"open\":%llu}",
                (unsigned long long)n_req, (unsigned long long)n_call, (unsigned long long)n_conn,
                (unsigned long long)n_stream, (unsigned long long)n_open);
            put_json(c, "200 OK", b, k);
            break;
        default:
            put_json(c, "404 Not Found", "{\"error\":{\"message\":\"no such route\"}}", 37);
        }
        c->busy = 0;
        return flush(c);
    }
    n_stream++;
    static const char H[] =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: "
        "no-cache\r\nx-request-id: req_mock\r\ntransfer-encoding: chunked\r\n\r\n";
    put(c, H, sizeof H - 1);
    for (;;) {
        int fin = emit(c);
        if (flush(c) < 0)
            return -1;
        if (fin) {
            c->busy = 0;
            return 0;
        }
        if (c->chunk_ns) {
            c->due = now_ns() + c->chunk_ns;
            hpush(c);
            return 0;
        }
    }
}
static int on_timer(conn *c) {
    if (c->pos == 0)
        return start_reply(c);
    int fin = emit(c);
    if (flush(c) < 0)
        return -1;
    if (fin) {
        c->busy = 0;
        return handle(c);
    }
    c->due += c->chunk_ns;
    hpush(c);
    return 0;
}
static long hnum(const char *h, size_t n, const char *name, long dflt) {
    char *p = memmem(h, n, name, strlen(name));
    return p ? atol(p + strlen(name)) : dflt;
}
/* 1 handled, 0 need more, -1 dead */
static int one(conn *c) {
    char *e = memmem(c->in, c->in_n, "\r\n\r\n", 4);
    if (!e)
        return 0;
    size_t hl = e - c->in + 4;
    for (char *p = c->in; p < e; p++) { /* lower-case header names */
        if (*p == '\n')
            for (p++; p < e && *p != ':' && *p != '\n'; p++)
                *p = tolower(*p);
    }
    long cl = hnum(c->in, hl, "\ncontent-length:", -1);
    size_t used;
    char *body = c->in + hl;
    size_t bn = 0;
    char *te = memmem(c->in, hl, "\ntransfer-encoding:", 19);
    if (memmem(c->in, hl, "\nexpect:", 8) && c->in_n == hl) {
        send(c->fd, "HTTP/1.1 100 Continue\r\n\r\n", 25, MSG_NOSIGNAL);
    }
    if (te) { /* chunked: decode in place once complete */
        char *q = body, *end = c->in + c->in_n;
        size_t o = 0;
        char *w = body;
        char *z = memmem(body, end - body, "\r\n0\r\n\r\n", 7);
        if (!z && !(end - body >= 5 && !memcmp(body, "0\r\n\r\n", 5)))
            return 0;
        for (;;) {
            char *x;
            long n = strtol(q, &x, 16);
            x = memmem(x, end - x, "\r\n", 2);
            if (!x)
                return 0;
            x += 2;
            if (n == 0) {
                q = x + 2;
                break;
            }
            if (x + n + 2 > end)
                return 0;
            memmove(w + o, x, n);
            o += n;
            q = x + n + 2;
        }
        bn = o;
        used = q - c->in;
    } else {
        if (cl < 0)
            cl = 0;
        if (c->in_n < hl + cl)
            return 0;
        bn = cl;
        used = hl + cl;
    }
    n_req++;
    char *sp = memchr(c->in, ' ', hl), *path = sp + 1, *pe = memchr(path, ' ', e - path);
    char *qm = memchr(path, '?', pe - path);
    if (qm)
        pe = qm;
#define ENDS(s) ((size_t)(pe - path) >= sizeof(s) - 1 && !memcmp(pe - (sizeof(s) - 1), s, sizeof(s) - 1))
    c->kind = ENDS("/chat/completions") ? K_CHAT
              : ENDS("/embeddings")     ? K_EMB
              : ENDS("/messages")       ? K_MSG
              : ENDS("/models")         ? K_MODELS
              : ENDS("/stats")          ? K_STATS
              : ENDS("/completions")    ? K_COMP
                                        : K_404;
    n_call += c->kind == K_CHAT || c->kind == K_COMP || c->kind == K_MSG || c->kind == K_EMB;
    c->stream = (c->kind == K_CHAT || c->kind == K_MSG) &&
                (memmem(body, bn, "\"stream\":true", 13) || memmem(body, bn, "\"stream\": true", 14));
    c->usage =
        memmem(body, bn, "\"include_usage\":true", 20) || memmem(body, bn, "\"include_usage\": true", 21);
    long lat = hnum(c->in, hl, "\nx-mock-latency-ms:", d_lat),
         ch = hnum(c->in, hl, "\nx-mock-chunks:", d_chunks),
         dm = hnum(c->in, hl, "\nx-mock-chunk-ms:", d_chunkms);
    char *m = memmem(body, bn, "mock-l", 6);
    if (m) {
        long a, b, d;
        if (sscanf(m, "mock-l%ld-c%ld-d%ld", &a, &b, &d) == 3) {
            lat = a;
            ch = b;
            dm = d;
        }
    }
    if (c->kind == K_STATS || c->kind == K_MODELS)
        lat = 0;
    c->chunks = ch;
    c->chunk_ns = dm * 1000000L;
    c->pos = 0;
    c->busy = 1;
    memmove(c->in, c->in + used, c->in_n - used);
    c->in_n -= used;
    if (lat > 0) {
        c->due = now_ns() + lat * 1000000L;
        hpush(c);
        return 1;
    }
    return start_reply(c) < 0 ? -1 : 1;
}
static int handle(conn *c) {
    while (!c->busy && c->in_n) {
        int r = one(c);
        if (r < 0)
            return -1;
        if (!r)
            break;
    }
    return 0;
}

int main(int ac, char **av) {
    int port = ac > 1 ? atoi(av[1]) : 9100;
    signal(SIGPIPE, SIG_IGN);
    if (getenv("MOCK_LATENCY_MS"))
        d_lat = atol(getenv("MOCK_LATENCY_MS"));
    if (getenv("MOCK_CHUNKS"))
        d_chunks = atol(getenv("MOCK_CHUNKS"));
    if (getenv("MOCK_CHUNK_MS"))
        d_chunkms = atol(getenv("MOCK_CHUNK_MS"));
    EMB_N =
        sprintf(EMB, "{\"object\":\"list\",\"data\":[{\"object\":\"embedding\",\"index\":0,\"embedding\":[");
    for (int i = 0; i < 1536; i++)
        EMB_N += sprintf(EMB + EMB_N, "%s%.8f", i ? "," : "", ((i * 7919) % 2000 - 1000) / 20000.0);
    EMB_N += sprintf(
        EMB + EMB_N,
        "]}],\"model\":\"text-embedding-3-small\",\"usage\":{\"prompt_tokens\":8,\"total_tokens\":8}}");
    int ls = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one_ = 1;
    setsockopt(ls, SOL_SOCKET, SO_REUSEADDR, &one_, 4);
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(ls, (void *)&a, sizeof a) || listen(ls, 4096)) {
        perror("bind");
        return 1;
    }
    ep = epoll_create1(0);
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = ls};
    epoll_ctl(ep, EPOLL_CTL_ADD, ls, &ev);
    struct epoll_event evs[512];
    for (;;) {
        struct timespec ts, *tp = 0;
        if (hn) {
            int64_t d = heap[0]->due - now_ns();
            if (d < 0)
                d = 0;
            ts.tv_sec = d / 1000000000;
            ts.tv_nsec = d % 1000000000;
            tp = &ts;
        }
        int n = epoll_pwait2(ep, evs, 512, tp, 0);
        if (hn) {
            int64_t t = now_ns();
            while (hn && heap[0]->due <= t) {
                conn *c = heap[0];
                hdel(c);
                if (on_timer(c) < 0)
                    cclose(c);
            }
        }
        for (int i = 0; i < n; i++) {
            int fd = evs[i].data.fd;
            if (fd == ls) {
                for (;;) {
                    int f = accept4(ls, 0, 0, SOCK_NONBLOCK);
                    if (f < 0)
                        break;
                    if (f >= 1 << 16) {
                        close(f);
                        continue;
                    }
                    setsockopt(f, IPPROTO_TCP, TCP_NODELAY, &one_, 4);
                    conn *c = calloc(1, sizeof *c);
                    c->fd = f;
                    c->hp = -1;
                    conns[f] = c;
                    n_conn++;
                    n_open++;
                    struct epoll_event e = {.events = EPOLLIN, .data.fd = f};
                    epoll_ctl(ep, EPOLL_CTL_ADD, f, &e);
                }
                continue;
            }
            conn *c = conns[fd];
            if (!c)
                continue;
            if (evs[i].events & EPOLLOUT) {
                if (flush(c) < 0) {
                    cclose(c);
                    continue;
                }
                if (!c->out_n)
                    want(c, 0);
            }
            if (evs[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
                int dead = 0;
                for (;;) {
                    if (c->in_cap - c->in_n < 16384) {
                        c->in_cap = c->in_cap * 2 + 32768;
                        c->in = realloc(c->in, c->in_cap);
                    }
                    size_t room = c->in_cap - c->in_n - 1;
                    ssize_t k = recv(fd, c->in + c->in_n, room, 0);
                    if (k > 0) {
                        c->in_n += k;
                        c->in[c->in_n] = 0; /* sscanf and strtol read up to a NUL */
                        if ((size_t)k < room)
                            break;
                    } else if (k < 0 && errno == EAGAIN)
                        break;
                    else {
                        dead = 1;
                        break;
                    }
                }
                if (dead || handle(c) < 0)
                    cclose(c);
            }
        }
    }
}
