/* UDP sockets in C: what linerate-udp's loops are held against.
 *
 *   udp receive ADDRESS PORT     recvmmsg, 64 datagrams a call
 *   udp send BYTES|imix          sendmmsg, 64 datagrams a call, to the lab's receiver */
#include "bursts.h"

#include <arpa/inet.h>
#include <netinet/in.h>

enum { HEADERS = 42 };

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
	return fd;
}

static void receive(const char *ip, int port)
{
	struct sockaddr_in here = address(ip, port);
	int fd = udp_socket();

	if (bind(fd, (struct sockaddr *)&here, sizeof here))
		fail("bind");
	receive_bursts(fd);
}

static void transmit(const char *bytes)
{
	static uint8_t payload[FRAME];
	struct sockaddr_in to = address("10.98.1.2", 9000);
	unsigned length[12], kinds = lengths(bytes, length);
	int fd = udp_socket();

	if (connect(fd, (struct sockaddr *)&to, sizeof to))
		fail("connect");
	send_bursts(fd, payload, length, kinds, HEADERS);
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
