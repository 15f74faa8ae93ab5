package process

import "syscall"

// Attributes are of a process that Ctrl-C in a terminal does not reach before whoever started it, and that ends with that one, however
// it ends.
func Attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
