//go:build !linux

package process

import "syscall"

// Attributes are of a process that Ctrl-C in a terminal does not reach before whoever started it.
func Attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
