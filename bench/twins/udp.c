/* UDP sockets in C: what linerate-udp's loops are held against.
 *
 *   udp receive ADDRESS PORT     recvmmsg, 64 datagrams a call
 *   udp send BYTES|imix          sendmmsg, 64 datagrams a call, to the lab's receiver */
#include "program.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

enum { FRAME = 2048, BURST = 64, HEADERS = 42 };

static struct mmsghdr messages[BURST];
static struct iovec parts[BURST];
static uint8_t buffers[BURST][FRAME];

static struct sockaddr_in address(const char *ip, int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};

	if (inet_pton(AF_INET, ip, &a.sin_addr) != 1)
		fail(ip);
	return a;
}

static int udp_socket(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM, 0), bytes = 32 << 20;

	if (fd < 0)
		fail("socket");
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
	for (int i = 0; i < BURST; i++) {
		parts[i] = (struct iovec){buffers[i], FRAME};
		messages[i].msg_hdr.msg_iov = &parts[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	return fd;
}

static void receive(const char *ip, int port)
{
	struct sockaddr_in here = address(ip, port);
	int fd = udp_socket();
	struct meter meter;
	struct sink sink = {0};

	if (bind(fd, (struct sockaddr *)&here, sizeof here))
		fail("bind");
	meter_start(&meter);
	while (!stop) {
		uint64_t start = ticks();
		int n = recvmmsg(fd, messages, BURST, MSG_DONTWAIT, NULL);

		for (int i = 0; i < n; i++)
			see(&sink, buffers[i], messages[i].msg_len);
		meter_turn(&meter, start, n > 0 ? n : 0);
	}
	meter_report(&meter);
	sink_report(&sink);
}

static void transmit(const char *bytes)
{
	static uint8_t payload[FRAME];
	struct sockaddr_in to = address("10.98.1.2", 9000);
	unsigned length[12], kinds = lengths(bytes, length), kind = 0;
	int fd = udp_socket();
	struct meter meter;

	if (connect(fd, (struct sockaddr *)&to, sizeof to))
		fail("connect");
	meter_start(&meter);
	while (!stop) {
		uint64_t start = ticks();
		int n;

		for (int i = 0; i < BURST; i++) {
			parts[i].iov_len = length[kind] - HEADERS;
			memcpy(buffers[i], payload, parts[i].iov_len);
			if (++kind == kinds)
				kind = 0;
		}
		n = sendmmsg(fd, messages, BURST, 0);
		meter_turn(&meter, start, n > 0 ? n : 0);
	}
	meter_report(&meter);
}

int main(int count, char **word)
{
	if (count == 4 && !strcmp(word[1], "receive"))
		receive(word[2], atoi(word[3]));
	else if (count == 3 && !strcmp(word[1], "send"))
		transmit(word[2]);
	else
		return 2;
	return 0;
}
