/* The baseline: accepts every packet of one queue, at the least cost that the netlink interface allows.
 *
 *     accept_loop QUEUE COPY_RANGE
 *
 * One configuration message (bind, parameters, length 1,024, the GSO flag), recvmmsg of up to 64 messages that waits for
 * the first only, and all verdicts of what came in one sendto.
 * Message layout: linux/netfilter/nfnetlink_queue.h. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <linux/netlink.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BATCH = 64, LENGTH = 1024, BUFFER = 32 << 20, ATTRIBUTES = 4096 };

struct header {
    struct nlmsghdr netlink;
    struct nfgenmsg netfilter;
};

struct verdict {
    struct header header;
    struct nlattr attribute;
    struct nfqnl_msg_verdict_hdr body;
} __attribute__((packed));

static struct header header(uint16_t type, uint16_t flags, uint16_t queue, uint32_t length)
{
    return (struct header){
        .netlink = {.nlmsg_len = length, .nlmsg_type = (NFNL_SUBSYS_QUEUE << 8) | type, .nlmsg_flags = NLM_F_REQUEST | flags},
        .netfilter = {.nfgen_family = AF_UNSPEC, .version = NFNETLINK_V0, .res_id = htons(queue)},
    };
}

static char *put(char *end, uint16_t type, const void *value, uint16_t size)
{
    struct nlattr attribute = {.nla_len = NLA_HDRLEN + size, .nla_type = type};
    memcpy(end, &attribute, sizeof attribute);
    memcpy(end + NLA_HDRLEN, value, size);
    return end + NLA_HDRLEN + NLA_ALIGN(size);
}

static void configure(int netlink, uint16_t queue, uint32_t copy_range)
{
    struct nfqnl_msg_config_cmd bind = {.command = NFQNL_CFG_CMD_BIND};
    struct nfqnl_msg_config_params copy = {.copy_range = htonl(copy_range), .copy_mode = NFQNL_COPY_PACKET};
    uint32_t length = htonl(LENGTH), gso = htonl(NFQA_CFG_F_GSO);
    char request[256] = {0}, *end = request + sizeof(struct header);
    end = put(end, NFQA_CFG_CMD, &bind, sizeof bind);
    end = put(end, NFQA_CFG_PARAMS, &copy, sizeof copy);
    end = put(end, NFQA_CFG_QUEUE_MAXLEN, &length, sizeof length);
    end = put(end, NFQA_CFG_MASK, &gso, sizeof gso);
    end = put(end, NFQA_CFG_FLAGS, &gso, sizeof gso);
    struct header first = header(NFQNL_MSG_CONFIG, NLM_F_ACK, queue, end - request);
    memcpy(request, &first, sizeof first);

    struct {
        struct nlmsghdr netlink;
        struct nlmsgerr error;
    } answer = {0};
    if (send(netlink, request, end - request, 0) < 0 || recv(netlink, &answer, sizeof answer, 0) < 0)
        err(1, "queue %u: configuration", queue);
    if (answer.netlink.nlmsg_type != NLMSG_ERROR)
        errx(1, "queue %u: a message of type %u, expected an acknowledgement", queue, answer.netlink.nlmsg_type);
    if (answer.error.error) {
        errno = -answer.error.error;
        err(1, "queue %u: refused", queue);
    }
}

/* The id, in network order, of the packet in a message; 0 when it holds none. */
static uint32_t packet_id(const char *message, size_t length)
{
    const struct nlmsghdr *netlink = (const void *)message;
    if (length < sizeof(struct header) || netlink->nlmsg_type != ((NFNL_SUBSYS_QUEUE << 8) | NFQNL_MSG_PACKET))
        return 0;
    for (size_t at = sizeof(struct header); at + NLA_HDRLEN <= length;) {
        const struct nlattr *attribute = (const void *)(message + at);
        if ((attribute->nla_type & NLA_TYPE_MASK) == NFQA_PACKET_HDR)
            return ((const struct nfqnl_msg_packet_hdr *)(message + at + NLA_HDRLEN))->packet_id;
        at += NLA_ALIGN(attribute->nla_len);
    }
    return 0;
}

int main(int count, char **arguments)
{
    if (count != 3)
        errx(2, "usage: accept_loop QUEUE COPY_RANGE");
    uint16_t queue = atoi(arguments[1]);
    uint32_t copy_range = atoi(arguments[2]);
    size_t slot = copy_range + ATTRIBUTES;

    int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER), size = BUFFER, on = 1;
    struct sockaddr_nl own = {.nl_family = AF_NETLINK}, kernel = own;
    if (netlink < 0 || bind(netlink, (struct sockaddr *)&own, sizeof own))
        err(1, "netlink");
    if (setsockopt(netlink, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) ||
        setsockopt(netlink, SOL_NETLINK, NETLINK_NO_ENOBUFS, &on, sizeof on))
        err(1, "socket options");
    configure(netlink, queue, copy_range);

    static struct mmsghdr slots[BATCH];
    static struct iovec places[BATCH];
    static struct verdict verdicts[BATCH];
    char *memory = malloc(slot * BATCH);
    if (!memory)
        err(1, "memory");
    for (int each = 0; each < BATCH; each++) {
        places[each] = (struct iovec){memory + slot * each, slot};
        slots[each].msg_hdr = (struct msghdr){.msg_iov = &places[each], .msg_iovlen = 1};
        verdicts[each] = (struct verdict){
            .header = header(NFQNL_MSG_VERDICT, 0, queue, sizeof(struct verdict)),
            .attribute = {.nla_len = NLA_HDRLEN + sizeof(struct nfqnl_msg_verdict_hdr), .nla_type = NFQA_VERDICT_HDR},
            .body = {.verdict = htonl(NF_ACCEPT)},
        };
    }
    for (;;) {
        int received = recvmmsg(netlink, slots, BATCH, MSG_WAITFORONE, NULL), decided = 0;
        if (received < 0 && errno != EINTR)
            err(1, "recvmmsg");
        for (int each = 0; each < received; each++) {
            uint32_t id = packet_id(places[each].iov_base, slots[each].msg_len);
            if (id)
                verdicts[decided++].body.id = id;
        }
        if (decided && sendto(netlink, verdicts, decided * sizeof(struct verdict), 0, (struct sockaddr *)&kernel, sizeof kernel) < 0)
            err(1, "sendto");
    }
}
