package process

import (
	"fmt"
	"math/rand/v2"
	"net"
)

// Ports from which no system takes those of outgoing connections: one that is free stays free until somebody is told to listen on it.
const (
	firstPort = 10000
	lastPort  = 32767
)

// FreeAddresses returns n loopback addresses with ports that nobody listens on.
func FreeAddresses(n int) ([]string, error) {
	var addresses []string
	var err error
	for range 1000 {
		if len(addresses) == n {
			return addresses, nil
		}
		address := fmt.Sprintf("127.0.0.1:%d", firstPort+rand.IntN(lastPort-firstPort+1))
		var listener net.Listener
		if listener, err = net.Listen("tcp", address); err == nil {
			defer listener.Close() // held until all are found, so that they differ
			addresses = append(addresses, address)
		}
	}
	return nil, fmt.Errorf("looking for a free port: %w", err)
}
