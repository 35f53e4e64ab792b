/* libpcap, as a program that wants speed uses it: pcap receive IF. */
#include "program.h"

#include <pcap/pcap.h>

static void handler(u_char *sink, const struct pcap_pkthdr *header, const u_char *bytes)
{
	see((struct sink *)sink, bytes, header->caplen);
}

int main(int count, char **word)
{
	char why[PCAP_ERRBUF_SIZE] = "";
	struct meter meter;
	struct sink sink = {0};
	pcap_t *pcap;

	if (count != 3)
		return 2;
	pcap = pcap_create(word[2], why);
	if (!pcap || pcap_set_snaplen(pcap, 2048) || pcap_set_buffer_size(pcap, 32 << 20) || pcap_set_timeout(pcap, 1) ||
	    pcap_activate(pcap) < 0 || pcap_setdirection(pcap, PCAP_D_IN) || pcap_setnonblock(pcap, 1, why)) {
		fprintf(stderr, "libpcap: %s %s\n", why, pcap ? pcap_geterr(pcap) : "");
		return 1;
	}
	meter_start(&meter);
	while (!stop) {
		uint64_t start = ticks();
		int n = pcap_dispatch(pcap, -1, handler, (u_char *)&sink);

		meter_turn(&meter, start, n > 0 ? n : 0);
	}
	meter_report(&meter);
	sink_report(&sink);
	return 0;
}
