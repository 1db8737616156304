/* The load: UDP datagrams as fast as this processor sends them, by sendmmsg from 16 connected sockets in turn.
 *
 *     flood SECONDS SIZE FROM,... TO,... PORT OTHER_PORT EVERY
 *
 * SIZE is the bytes of UDP payload, all zero. Socket i sends from the i-th address of FROM to the i-th of TO, port PORT + i
 * (addresses are taken round and round). Of every EVERY datagrams one goes to OTHER_PORT instead; EVERY 0 is none.
 * Prints {"sent": datagrams, "seconds": elapsed}. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { SOCKETS = 16, BATCH = 64, ADDRESSES = 128, LARGEST = 65507 };

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static int split(char *text, struct in_addr *addresses)
{
    int count = 0;
    for (char *word = strtok(text, ","); word; word = strtok(NULL, ",")) {
        if (count == ADDRESSES || inet_pton(AF_INET, word, &addresses[count++]) != 1)
            errx(2, "'%s': expected at most %d IPv4 addresses", word, ADDRESSES);
    }
    if (!count)
        errx(2, "no address");
    return count;
}

int main(int count, char **arguments)
{
    if (count != 8)
        errx(2, "usage: flood SECONDS SIZE FROM,... TO,... PORT OTHER_PORT EVERY");
    double seconds = atof(arguments[1]);
    size_t size = atoi(arguments[2]);
    struct in_addr from[ADDRESSES], to[ADDRESSES];
    int sources = split(arguments[3], from), targets = split(arguments[4], to);
    uint16_t port = atoi(arguments[5]), other_port = atoi(arguments[6]);
    unsigned every = atoi(arguments[7]);
    if (size > LARGEST)
        errx(2, "size %zu: expected at most %d", size, LARGEST);

    static char payload[LARGEST];
    int sockets[SOCKETS];
    struct sockaddr_in others[SOCKETS];
    for (int each = 0; each < SOCKETS; each++) {
        struct sockaddr_in source = {.sin_family = AF_INET, .sin_addr = from[each % sources]};
        struct sockaddr_in target = {.sin_family = AF_INET, .sin_addr = to[each % targets], .sin_port = htons(port + each)};
        sockets[each] = socket(AF_INET, SOCK_DGRAM, 0);
        if (sockets[each] < 0 || bind(sockets[each], (struct sockaddr *)&source, sizeof source) ||
            connect(sockets[each], (struct sockaddr *)&target, sizeof target))
            err(1, "socket %d", each);
        others[each] = target;
        others[each].sin_port = htons(other_port);
    }

    struct iovec content = {payload, size};
    struct mmsghdr batch[BATCH];
    uint64_t sent = 0;
    unsigned until_other = every;
    double start = now(), end = start;
    for (int turn = 0; end - start < seconds; turn = (turn + 1) % SOCKETS) {
        for (int each = 0; each < BATCH; each++) {
            batch[each].msg_hdr = (struct msghdr){.msg_iov = &content, .msg_iovlen = 1};
            if (every && --until_other == 0) {
                until_other = every;
                batch[each].msg_hdr.msg_name = &others[turn];
                batch[each].msg_hdr.msg_namelen = sizeof others[turn];
            }
        }
        int done = sendmmsg(sockets[turn], batch, BATCH, 0);
        if (done < 0 && errno != ENOBUFS && errno != EAGAIN)
            err(1, "sendmmsg");
        sent += done > 0 ? done : 0;
        end = now();
    }
    printf("{\"sent\": %llu, \"seconds\": %.6f}\n", (unsigned long long)sent, end - start);
}
