package manager

import "syscall"

// processAttributes keeps Ctrl-C in a terminal from reaching the manager before whoever started it, and ends the manager
// with the process that started it, however that ends.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
