package cluster

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// port is a free TCP port of 127.0.0.1, kept for one component: its socket is bound
// but does not listen. A component that binds with SO_REUSEPORT, which is what
// --permit-port-sharing means, gets the port; nobody else is given it, not even while
// the component is stopped.
type port struct {
	number int
	socket *os.File
}

func reservePort() (*port, error) {
	// Not every system opens a socket close-on-exec in one step. Under the lock no
	// child is started between the two.
	syscall.ForkLock.RLock()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, fmt.Errorf("reserving a port: %w", err)
	}
	p := &port{socket: os.NewFile(uintptr(fd), "reserved port")}
	if p.number, err = bind(fd); err != nil {
		return nil, errors.Join(fmt.Errorf("reserving a port: %w", err), p.release())
	}
	return p, nil
}

// bind binds a socket to a free port, which it returns.
func bind(fd int) (int, error) {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return 0, err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, err
	}
	address, err := unix.Getsockname(fd)
	if err != nil {
		return 0, err
	}
	return address.(*unix.SockaddrInet4).Port, nil
}

// release gives the port back.
func (p *port) release() error { return p.socket.Close() }
