//go:build !linux

package distribution

import "syscall"

// processAttributes keeps Ctrl-C in a terminal from reaching Prometheus first.
func processAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
