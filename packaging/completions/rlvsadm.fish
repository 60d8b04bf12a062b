# SPDX-License-Identifier: GPL-2.0
complete -c rlvsadm -l start-daemon -d 'Start the daemon that sends connections to other directors (master), or receives them (backup)' -r -f -a "master\t''
backup\t''"
complete -c rlvsadm -l stop-daemon -d 'Stop one of these daemons' -r -f -a "master\t''
backup\t''"
complete -c rlvsadm -s h -l help -d 'Explain a topic, or everything in short' -r -f -a "services\t''
destinations\t''
fullnat\t''
listings\t''
sync\t''
save\t''
json\t''"
complete -c rlvsadm -s t -l tcp-service -d 'TCP at this address' -r
complete -c rlvsadm -s u -l udp-service -d 'UDP at this address' -r
complete -c rlvsadm -l sctp-service -d 'SCTP at this address' -r
complete -c rlvsadm -s f -l fwmark-service -d 'Packets that a firewall gave this mark' -r
complete -c rlvsadm -s s -l scheduler -d 'How a real server is chosen: rr, wrr, lc, wlc (the default), lblc, lblcr, dh, sh, sed, nq, fo, ovf, mh, twos, none' -r -f -a "rr\t''
wrr\t''
lc\t''
wlc\t''
lblc\t''
lblcr\t''
dh\t''
sh\t''
sed\t''
nq\t''
fo\t''
ovf\t''
mh\t''
twos\t''
none\t''"
complete -c rlvsadm -s p -l persistent -d 'Keep a client at its real server for that long after its last connection (default: 360)' -r
complete -c rlvsadm -s M -l netmask -d 'Take the clients of one network for one: 255.255.255.0, or a prefix length for IPv6' -r
complete -c rlvsadm -l pe -d 'Persistence engine, such as sip' -r -f -a "sip\t''"
complete -c rlvsadm -s b -l sched-flags -d 'Flags of the scheduler, with commas between: flag-1, flag-2, flag-3, sh-fallback, sh-port, mh-fallback, mh-port' -r -f -a "flag-1\t''
flag-2\t''
flag-3\t''
sh-fallback\t''
sh-port\t''
mh-fallback\t''
mh-port\t''"
complete -c rlvsadm -s r -l real-server -d 'The real server; without a port, the service\'s; always the service\'s with -g and -i' -r
complete -c rlvsadm -s w -l weight -d 'Its share of the connections; 0: no new ones (default: 1)' -r
complete -c rlvsadm -s x -l u-threshold -d 'No new connections from that many on (default: 0, no limit)' -r
complete -c rlvsadm -s y -l l-threshold -d 'New ones again below that many' -r
complete -c rlvsadm -l tun-type -d 'Encapsulation of a tunnel: ipip (the default), gue or gre' -r -f -a "ipip\t''
gue\t''
gre\t''"
complete -c rlvsadm -l tun-port -d 'UDP port of a gue tunnel' -r
complete -c rlvsadm -s z -l local-address -d 'ADDRESS, FIRST-LAST or ADDRESS/PREFIX; at most 4096 at once' -r
complete -c rlvsadm -l mcast-interface -d 'Network device (default: eth0)' -r
complete -c rlvsadm -l syncid -d 'Directors with the same number belong together' -r
complete -c rlvsadm -l mcast-group -d 'Multicast group (default: 224.0.0.81)' -r
complete -c rlvsadm -l mcast-port -d 'UDP port (default: 8848)' -r
complete -c rlvsadm -l mcast-ttl -d 'How many routers a message passes (default: 1)' -r
complete -c rlvsadm -l sync-maxlen -d 'Longest message (default: by the device\'s MTU)' -r
complete -c rlvsadm -l set -d 'Set the timeouts of connections, in seconds; 0 leaves one as it is' -r
complete -c rlvsadm -s A -l add-service -d 'Add a virtual service'
complete -c rlvsadm -s E -l edit-service -d 'Edit a virtual service; what is not named gets its default'
complete -c rlvsadm -s D -l delete-service -d 'Delete a virtual service with its real servers'
complete -c rlvsadm -s a -l add-server -d 'Add a real server to a service'
complete -c rlvsadm -s e -l edit-server -d 'Edit a real server; what is not named gets its default'
complete -c rlvsadm -s d -l delete-server -d 'Take a real server from a service'
complete -c rlvsadm -s P -l add-laddr -d 'Add local addresses to a service, for FullNAT: all of them, or none'
complete -c rlvsadm -s Q -l del-laddr -d 'Take local addresses from a service'
complete -c rlvsadm -s G -l get-laddr -d 'List the local addresses of a service or of all'
complete -c rlvsadm -s L -s l -l list -d 'List services, or what the options name instead (also -l)'
complete -c rlvsadm -s Z -l zero -d 'Set the counters of a service or of all to zero'
complete -c rlvsadm -s C -l clear -d 'Delete all services'
complete -c rlvsadm -s S -l save -d 'Print all services as command lines'
complete -c rlvsadm -s R -l restore -d 'Carry out the command lines that stand on the input'
complete -c rlvsadm -s v -l version -d 'Print the version'
complete -c rlvsadm -s 6 -l ipv6 -d 'The packets of the mark are IPv6'
complete -c rlvsadm -s o -l ops -d 'Schedule each UDP packet by itself'
complete -c rlvsadm -s g -l gatewaying -d 'Reach it by direct routing (the default)'
complete -c rlvsadm -s i -l ipip -d 'Reach it through a tunnel'
complete -c rlvsadm -s m -l masquerading -d 'Reach it by NAT, or by FullNAT if the service has local addresses'
complete -c rlvsadm -l fullnat -d 'Reach it by FullNAT'
complete -c rlvsadm -l tun-nocsum -d 'No checksums in a gue or gre tunnel (the default)'
complete -c rlvsadm -l tun-csum -d 'Checksums in a gue or gre tunnel'
complete -c rlvsadm -l tun-remcsum -d 'Remote checksum offload in a gue tunnel'
complete -c rlvsadm -s n -l numeric -d 'Show addresses and ports as numbers'
complete -c rlvsadm -s c -l connection -d 'List connections'
complete -c rlvsadm -l timeout -d 'List the timeouts of connections'
complete -c rlvsadm -l daemon -d 'List the synchronisation daemons'
complete -c rlvsadm -l stats -d 'Show counters: connections, packets, bytes'
complete -c rlvsadm -l rate -d 'Show the same for each second'
complete -c rlvsadm -l thresholds -d 'Show the thresholds of the real servers'
complete -c rlvsadm -l persistent-conn -d 'Show connections of persistent services; with -c what persistence engines know'
complete -c rlvsadm -l nosort -d 'Keep the kernel\'s order'
complete -c rlvsadm -s X -l exact -d 'Show large numbers in full'
complete -c rlvsadm -l tun-info -d 'Show how tunnels are set up'
complete -c rlvsadm -l json -d 'List as JSON'
complete -c rlvsadm -l sort -d 'Sort (the default)'
