package distribution

import "syscall"

// processAttributes keeps Ctrl-C in a terminal from reaching Prometheus first, and ends it with the process that started it.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
