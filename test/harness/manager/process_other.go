//go:build !linux

package manager

import "syscall"

// processAttributes keeps Ctrl-C in a terminal from reaching the manager before whoever started it.
func processAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
