//go:build linux

package node

import (
	"fmt"
	"net"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/dns/dnsmessage"
)

// network gives the machine the interface eth0 with the addresses of the node and of the registries. The other end of the
// cable is on the same machine: what is sent there is lost.
func network() error {
	const name, peer = "eth0", "uplink"
	err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: peer})
	if err != nil {
		return fmt.Errorf("making the interface %s: %w", name, err)
	}
	for _, end := range []string{name, peer} {
		link, err := netlink.LinkByName(end)
		if err == nil {
			err = netlink.LinkSetUp(link)
		}
		if err != nil {
			return fmt.Errorf("bringing up the interface %s: %w", end, err)
		}
	}
	eth0, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, address := range []string{Address, RegistryAddress, GuardedAddress} {
		ip := &net.IPNet{IP: net.ParseIP(address).To4(), Mask: net.CIDRMask(24, 32)}
		if err := netlink.AddrAdd(eth0, &netlink.Addr{IPNet: ip}); err != nil {
			return fmt.Errorf("giving %s the address %s: %w", name, address, err)
		}
	}
	// A Service's address has no route of its own: what is sent to it must be going somewhere to be redirected.
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: eth0.Attrs().Index, Gw: net.ParseIP(gateway)}); err != nil {
		return fmt.Errorf("adding the default route: %w", err)
	}
	return nil
}

// nowhere is a DNS server that knows no name.
type nowhere struct{ socket net.PacketConn }

// serveNowhere serves DNS on an address, and has this machine ask there.
func serveNowhere(address string) (*nowhere, error) {
	socket, err := net.ListenPacket("udp", net.JoinHostPort(address, "53"))
	if err != nil {
		return nil, fmt.Errorf("serving DNS: %w", err)
	}
	go func() {
		query := make([]byte, 512)
		for {
			n, from, err := socket.ReadFrom(query)
			if err != nil {
				return // closed
			}
			if answer, err := nonexistent(query[:n]); err == nil {
				_, _ = socket.WriteTo(answer, from) // whoever does not get it asks again
			}
		}
	}()
	if err := os.WriteFile("/etc/resolv.conf", []byte("nameserver "+address+"\n"), 0o644); err != nil {
		return nil, err
	}
	return &nowhere{socket}, nil
}

func (n *nowhere) close() error { return n.socket.Close() }

// nonexistent answers a DNS query: there is no such name.
func nonexistent(query []byte) ([]byte, error) {
	var message dnsmessage.Message
	if err := message.Unpack(query); err != nil {
		return nil, err
	}
	message.Response, message.RCode = true, dnsmessage.RCodeNameError
	message.Additionals = nil
	return message.Pack()
}
