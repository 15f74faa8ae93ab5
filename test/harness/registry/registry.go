// Package registry runs the CNCF's registry on loopback. It lets in whoever has a password of a file, or a token of its token service,
// which asks somebody else who may have what: the cloud to test with, for one.
package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/tcr-assistant/tcr-assistant/test/harness/binaries"
	"github.com/tcr-assistant/tcr-assistant/test/harness/process"
	"github.com/tcr-assistant/tcr-assistant/test/harness/selfsigned"
)

const (
	// patience bounds how long it may take to come up, on a busy machine too.
	patience = time.Minute
	// loopback is where everything listens.
	loopback = "127.0.0.1"
)

// Options say how a registry is started.
type Options struct {
	// Dir is for all that it writes.
	Dir string
	// Hosts are its names, which lead nowhere: its own client alone knows where it is. Without any it is called by its address.
	Hosts []string
	// ImagesOf is a registry whose images it has, too, instead of some of its own.
	ImagesOf *Registry
	// Grants says what its token service gives somebody, and whether it lets them in at all. Nobody has no name.
	Grants func(user, password string) (given Grant, letIn bool)
	// Passwords are those of its users, by their names, where it has no token service.
	Passwords map[string]string
}

// Registry is a running one, and the client that reaches it.
type Registry struct {
	*Client
	// Host is the first of its names, or its address and port.
	Host string
	// Realm is the host of its token service, with a port if that is an address; "" if it has none.
	Realm string
	// Certificates are what to trust, in PEM: its own, which signed itself, and that of its token service.
	Certificates []byte

	dir     string
	storage string // the folder of its images
	tokens  *tokenService
	command *exec.Cmd
	ended   chan struct{}
}

// Start starts a registry, and returns once it answers.
func Start(ctx context.Context, options Options) (r *Registry, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("starting a registry: %w", err), r.Stop())
		}
	}()
	r = &Registry{dir: options.Dir, storage: filepath.Join(options.Dir, "storage")}
	if options.ImagesOf != nil {
		r.storage = options.ImagesOf.storage
	}
	binary, err := binaries.Find("docker-registry", "registry", "debian")
	if err != nil {
		return r, err
	}
	free, err := process.FreeAddresses(1)
	if err != nil {
		return r, err
	}
	address := free[0]
	if err := r.configure(address, options); err != nil {
		return r, err
	}
	if err := r.run(binary); err != nil {
		return r, err
	}
	r.Client = NewClient(r.Certificates, func(asked string) string {
		if r.tokens != nil && strings.TrimSuffix(asked, ":443") == r.Realm {
			return r.tokens.address
		}
		return address
	})
	return r, r.await(ctx)
}

// configure writes all that the registry's program reads.
func (r *Registry) configure(address string, options Options) error {
	names := options.Hosts
	if len(names) == 0 {
		r.Host, names = address, []string{loopback}
	} else {
		r.Host = names[0]
	}
	certificate, key, err := selfsigned.New(names...)
	if err != nil {
		return err
	}
	r.Certificates = certificate
	auth, err := r.prepareAuth(options)
	if err != nil {
		return err
	}
	for file, text := range map[string]string{
		"tls.crt": string(certificate), "tls.key": string(key),
		"config.yaml": fmt.Sprintf(`version: 0.1
log: {accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: %q}}
http: {addr: %q, tls: {certificate: %q, key: %q}}
auth: {%s}
`, r.storage, address, r.path("tls.crt"), r.path("tls.key"), auth),
	} {
		if err := os.WriteFile(r.path(file), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// prepareAuth makes what decides who is let in, and returns what the registry's configuration says of it.
func (r *Registry) prepareAuth(options Options) (config string, err error) {
	if options.Grants == nil {
		return fmt.Sprintf("htpasswd: {realm: registry, path: %q}", r.path("htpasswd")), r.SetPasswords(options.Passwords)
	}
	var host string
	if len(options.Hosts) > 0 {
		// Some clients ask no service under an address of loopback for a registry that has a name.
		host = "tokens." + options.Hosts[0]
	}
	if r.tokens, err = startTokens(host, options.Grants); err != nil {
		return "", err
	}
	r.Realm = r.tokens.host
	r.Certificates = append(r.Certificates, r.tokens.certificate...)
	return fmt.Sprintf("token: {realm: %q, service: %q, issuer: %q, rootcertbundle: %q}",
		"https://"+r.Realm+"/token", service, issuer, r.path("tokens.crt")), os.WriteFile(r.path("tokens.crt"), r.tokens.certificate, 0o600)
}

func (r *Registry) path(file string) string { return filepath.Join(r.dir, file) }

// SetPasswords makes these users, with their passwords, the only ones that the registry lets in.
func (r *Registry) SetPasswords(passwords map[string]string) error {
	text, err := Htpasswd(passwords)
	if err != nil {
		return err
	}
	// The registry reads the file again when its time changes.
	return os.WriteFile(r.path("htpasswd"), []byte(text), 0o600)
}

// Htpasswd returns a registry's file of users with their passwords.
func Htpasswd(passwords map[string]string) (string, error) {
	var lines strings.Builder
	for user, password := range passwords {
		hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
		if err != nil {
			return "", fmt.Errorf("hashing a password: %w", err)
		}
		fmt.Fprintf(&lines, "%s:%s\n", user, hash)
	}
	return lines.String(), nil
}

// run runs the registry's program.
func (r *Registry) run(binary string) error {
	log, err := os.Create(r.path("registry.log"))
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the program has its own
	command := exec.Command(binary, "serve", r.path("config.yaml"))
	command.Stdout, command.Stderr, command.SysProcAttr = log, log, process.Attributes()
	if err := command.Start(); err != nil {
		return err
	}
	r.command, r.ended = command, make(chan struct{})
	go func() {
		_ = command.Wait() // what it says is in command.ProcessState
		close(r.ended)
	}()
	return nil
}

// await returns once the registry asks who one is.
func (r *Registry) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		status, err := r.Login(ctx, r.Host, "", "")
		if err == nil {
			if status == http.StatusUnauthorized {
				return nil
			}
			err = errors.New(http.StatusText(status))
		}
		select {
		case <-r.ended:
			said, unread := os.ReadFile(r.path("registry.log"))
			return errors.Join(fmt.Errorf("it ended by itself: %s\n%s", r.command.ProcessState, said), unread)
		case <-ctx.Done():
			return fmt.Errorf("it does not answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Stop ends the registry at once, and its token service.
func (r *Registry) Stop() error {
	var all error
	if r.command != nil {
		if err := r.command.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			all = fmt.Errorf("stopping the registry: %w", err)
		}
		<-r.ended
	}
	if r.Client != nil {
		r.transport.CloseIdleConnections()
	}
	if r.tokens != nil {
		all = errors.Join(all, r.tokens.server.Close())
	}
	return all
}

// Logins counts the requests to its token service that held a user name and a password.
func (r *Registry) Logins() int { return int(r.tokens.logins.Load()) }
