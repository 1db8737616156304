/* Latency: one small UDP datagram there and back, again and again.
 *
 *     pingpong serve ADDRESS PORT                      answers until it is killed; prints "ready"
 *     pingpong ask ADDRESS PORT COUNT SECONDS          COUNT round trips, or as many as SECONDS have
 *
 * Prints {"count": answered, "lost": without answer within 1 s, "p50": microseconds, "p99": microseconds}. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e6 + time.tv_nsec / 1e3;
}

static int ascending(const void *one, const void *other)
{
    double a = *(const double *)one, b = *(const double *)other;
    return (a > b) - (a < b);
}

static void serve(int udp, const struct sockaddr_in *address)
{
    char content[2048];
    struct sockaddr_in peer;
    if (bind(udp, (const struct sockaddr *)address, sizeof *address))
        err(1, "bind");
    puts("ready");
    fflush(stdout);
    for (;;) {
        socklen_t length = sizeof peer;
        ssize_t size = recvfrom(udp, content, sizeof content, 0, (struct sockaddr *)&peer, &length);
        if (size < 0 || sendto(udp, content, size, 0, (struct sockaddr *)&peer, length) < 0)
            err(1, "echo");
    }
}

static void ask(int udp, const struct sockaddr_in *address, int count, double seconds)
{
    double *times = calloc(count, sizeof *times);
    struct timeval limit = {.tv_sec = 1};
    int answered = 0, lost = 0;
    if (!times || setsockopt(udp, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) ||
        connect(udp, (const struct sockaddr *)address, sizeof *address))
        err(1, "connect");
    double deadline = now() + seconds * 1e6;
    for (int number = 0; answered < count && now() < deadline; number++) {
        char content[18] = {0};
        int echo = -1;
        memcpy(content, &number, sizeof number);
        double start = now();
        if (send(udp, content, sizeof content, 0) < 0)
            err(1, "send");
        while (echo != number && recv(udp, content, sizeof content, 0) >= (ssize_t)sizeof echo)
            memcpy(&echo, content, sizeof echo); /* a late answer to an earlier one is not this one's */
        if (echo == number)
            times[answered++] = now() - start;
        else if (errno == EAGAIN)
            lost++;
        else
            err(1, "recv");
    }
    if (!answered)
        errx(1, "no answer");
    qsort(times, answered, sizeof *times, ascending);
    printf("{\"count\": %d, \"lost\": %d, \"p50\": %.2f, \"p99\": %.2f}\n", answered, lost, times[answered / 2],
           times[(long)answered * 99 / 100]);
}

int main(int count, char **arguments)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    int asks = count == 6 && !strcmp(arguments[1], "ask"), serves = count == 4 && !strcmp(arguments[1], "serve");
    if (!asks && !serves)
        errx(2, "usage: pingpong serve ADDRESS PORT | pingpong ask ADDRESS PORT COUNT SECONDS");
    if (inet_pton(AF_INET, arguments[2], &address.sin_addr) != 1)
        errx(2, "'%s': expected an IPv4 address", arguments[2]);
    address.sin_port = htons(atoi(arguments[3]));
    int udp = socket(AF_INET, SOCK_DGRAM, 0);
    if (udp < 0)
        err(1, "socket");
    if (serves)
        serve(udp, &address);
    ask(udp, &address, atoi(arguments[4]), atof(arguments[5]));
}
