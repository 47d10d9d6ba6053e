/*
 * A minimal server: the same frames, one send() for each subscriber and message. No Kafka, no
 * subscriptions, no parsing; each connected client receives every message.
 *
 *     baseline PORT RATE RECORD_BYTES
 *
 * listens on 127.0.0.1 and sends RATE messages per second, whose records have RECORD_BYTES bytes.
 * Sockets block in send(): an overloaded baseline becomes slow and loses no message.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST_DESCRIPTORS = 1 << 20, EVENTS = 512, BACKLOG = 4096, LONGEST_RECORD = 16384 };

struct subscriber {
    int descriptor;
    long long seq;
};

static struct subscriber subscribers[MOST_DESCRIPTORS];
static int place_of[MOST_DESCRIPTORS]; /* by descriptor: its place among the subscribers, or -1 */
static int subscriber_count;

static long long now_us(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void allow_many_descriptors(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max < MOST_DESCRIPTORS ? limit.rlim_max : MOST_DESCRIPTORS;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static int listen_on(int port)
{
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons(port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, BACKLOG))
        fail("cannot listen");
    return listener;
}

static void watch(int epoll, int descriptor)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = descriptor};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event))
        fail("epoll_ctl");
}

static void accept_all(int epoll, int listener)
{
    int one = 1, descriptor;
    while ((descriptor = accept4(listener, NULL, NULL, 0)) >= 0) {
        setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        place_of[descriptor] = -1;
        watch(epoll, descriptor);
    }
}

static void add(int descriptor)
{
    place_of[descriptor] = subscriber_count;
    subscribers[subscriber_count++] = (struct subscriber){.descriptor = descriptor};
}

/* The last subscriber takes the place of the disconnected one. */
static void leave(int descriptor)
{
    int place = place_of[descriptor];
    if (place >= 0) {
        subscribers[place] = subscribers[--subscriber_count];
        place_of[subscribers[place].descriptor] = place;
    }
    close(descriptor);
}

/* A request gets a response; other bytes of the client are dropped. */
static void hear(int descriptor)
{
    static const char answer[] = "HTTP/1.1 101 Switching Protocols\r\n"
                                 "Upgrade: websocket\r\n"
                                 "Connection: Upgrade\r\n"
                                 "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    char request[4096];
    ssize_t size = recv(descriptor, request, sizeof request, 0);
    if (size <= 0) {
        leave(descriptor);
    } else if (size >= 3 && !memcmp(request, "GET", 3)) {
        send(descriptor, answer, sizeof answer - 1, MSG_NOSIGNAL);
        add(descriptor);
    }
}

static void send_to_all(long long number, const char *pad)
{
    static char tail[LONGEST_RECORD + 512], frame[LONGEST_RECORD + 1024];
    long long now = now_us(CLOCK_REALTIME);
    int tail_size = sprintf(tail,
        ",\"ts\":%lld,\"type\":\"message\",\"channel\":\"baseline0.trade\",\"pos\":\"0-%lld\","
        "\"data\":{\"type\":\"TRADE_EXECUTED\",\"timestamp\":%lld,"
        "\"data\":{\"k\":0,\"n\":%lld,\"pub_us\":%lld,\"pad\":\"%s\"}}}",
        now / 1000, number, now / 1000, number, now, pad);
    for (int place = 0; place < subscriber_count; place++) {
        struct subscriber *to = &subscribers[place];
        int size = sprintf(frame + 4, "{\"seq\":%lld", ++to->seq);
        memcpy(frame + 4 + size, tail, tail_size);
        size += tail_size;
        /* A text frame of more than 125 bytes: RFC 6455, 5.2. */
        frame[0] = (char)0x81;
        frame[1] = 126;
        frame[2] = (char)(size >> 8);
        frame[3] = (char)(size & 255);
        send(to->descriptor, frame, size + 4, MSG_NOSIGNAL);
    }
}

int main(int count, char **arguments)
{
    static char pad[LONGEST_RECORD];
    struct epoll_event events[EVENTS];
    if (count != 4) {
        fprintf(stderr, "usage: baseline PORT RATE RECORD_BYTES\n");
        return 2;
    }
    /* Without a rate nothing is sent. */
    double rate = atof(arguments[2]), interval_us = rate > 0 ? 1e6 / rate : 0;
    /* A record has about 110 bytes besides its padding. */
    int pad_bytes = atoi(arguments[3]) - 110;
    if (pad_bytes > 0 && pad_bytes < LONGEST_RECORD)
        memset(pad, 'x', pad_bytes);
    allow_many_descriptors();
    int listener = listen_on(atoi(arguments[1])), epoll = epoll_create1(0);
    watch(epoll, listener);
    long long begin = now_us(CLOCK_MONOTONIC), number = 0;
    for (;;) {
        long long due = begin + (long long)((number + 1) * interval_us);
        long long wait = due - now_us(CLOCK_MONOTONIC);
        int wait_ms = rate <= 0 ? -1 : wait > 0 ? (int)(wait / 1000) : 0;
        int ready = epoll_wait(epoll, events, EVENTS, wait_ms);
        if (ready < 0 && errno != EINTR)
            fail("epoll_wait");
        for (int event = 0; event < ready; event++) {
            if (events[event].data.fd == listener)
                accept_all(epoll, listener);
            else
                hear(events[event].data.fd);
        }
        if (rate > 0 && now_us(CLOCK_MONOTONIC) >= due)
            send_to_all(++number, pad);
    }
}
