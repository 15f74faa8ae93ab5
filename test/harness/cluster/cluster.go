// Package cluster starts and stops a real Kubernetes control plane on loopback: etcd,
// kube-apiserver and kube-controller-manager, built from the modules that they are
// released as. It needs neither root nor a container engine. Several clusters run side by
// side; each lives in a scratch folder, and neither its processes nor the folder outlive
// Stop. The processes do not outlive the one that started them either, however it ends.
package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/tcr-assistant/tcr-assistant/test/harness/binaries"
	"github.com/tcr-assistant/tcr-assistant/test/harness/process"
)

// VersionVariable is the environment variable with the version of Kubernetes to start where
// none is asked for.
const VersionVariable = "TCR_ASSISTANT_KUBERNETES"

// Options say how a cluster differs from the usual one. The zero value is the usual one.
type Options struct {
	// Version of Kubernetes, as in v1.36.3. Empty is what VersionVariable says, or else the
	// one of harness/kubernetes/go.mod; another one needs a module file of its own beside it.
	Version string
	// Dir is the folder in which the cluster makes its scratch folder; empty is the
	// system's folder for temporary files.
	Dir string
	// APIServerArgs and ControllerManagerArgs are flags like --v=4 that come after the
	// usual ones and override them.
	APIServerArgs, ControllerManagerArgs []string
	// Fsync has etcd wait for the disk at each write, as it does wherever something is to be kept.
	Fsync bool
	// CRDs are files, or folders of them, whose CustomResourceDefinitions are served before
	// the controller manager starts. Of kinds that come later its garbage collector hears
	// within 30 seconds, and collects nothing of their owners until then.
	CRDs []string
	// Log is told what Start does, in lines; it may be nil.
	Log io.Writer
}

// Cluster is a running control plane. Its methods may be called from several goroutines.
type Cluster struct {
	kubernetes    binaries.Kubernetes
	dir           string
	authority     *authority
	restConfig    *rest.Config
	apiServerArgs []string
	fsync         bool
	halt          func() error // haltAll, once
	remove        func() error // removes dir, once

	apiServerPort, controllerManagerPort *port

	mu                                 sync.Mutex // guards what follows
	halted                             bool
	etcd, apiServer, controllerManager *process.Process // nil while stopped
}

var errStopped = errors.New("the cluster is stopped")

// Start starts a control plane, and builds its binaries first where that was not done yet
// (see [binaries.Build]). It returns once the API server is ready and the controller
// manager works: the namespace default has its ServiceAccount. Where a component does not
// come up the error holds the end of its log.
//
// When ctx ends, also later, the cluster is stopped.
func Start(ctx context.Context, opts Options) (*Cluster, error) {
	progress := opts.Log
	if progress == nil {
		progress = io.Discard
	}
	kubernetes, err := binaries.Build(ctx, cmp.Or(opts.Version, os.Getenv(VersionVariable)), progress)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	c, err := prepare(kubernetes, opts, began)
	if err != nil {
		return nil, fmt.Errorf("preparing a control plane: %w", err)
	}
	if err := c.start(ctx, opts); err != nil {
		return nil, errors.Join(fmt.Errorf("starting a control plane: %w", err), c.Stop())
	}
	context.AfterFunc(ctx, func() { _ = c.Stop() })
	_, _ = fmt.Fprintf(progress, "Started Kubernetes %s in %s, in %s.\n", kubernetes.Version, time.Since(began).Round(100*time.Millisecond), c.dir)
	return c, nil
}

// prepare makes the scratch folder with all that the components read, and takes the ports.
func prepare(kubernetes binaries.Kubernetes, opts Options, now time.Time) (c *Cluster, err error) {
	dir, err := os.MkdirTemp(opts.Dir, "tcr-assistant-cluster-")
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	c = &Cluster{kubernetes: kubernetes, dir: dir, apiServerArgs: opts.APIServerArgs, fsync: opts.Fsync}
	c.halt = sync.OnceValue(c.haltAll)
	c.remove = sync.OnceValue(func() error { return os.RemoveAll(dir) })
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Stop())
		}
	}()
	if c.apiServerPort, err = reservePort(); err != nil {
		return nil, err
	}
	if c.controllerManagerPort, err = reservePort(); err != nil {
		return nil, err
	}
	if c.authority, err = newAuthority(now); err != nil {
		return nil, err
	}
	if err := c.writeFiles(now); err != nil {
		return nil, err
	}
	c.restConfig, err = clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		return nil, err
	}
	c.restConfig.QPS = -1 // no limit
	return c, nil
}

func (c *Cluster) writeFiles(now time.Time) error {
	for _, folder := range []string{logFolder, kubectlCacheFolder} {
		if err := os.Mkdir(c.path(folder), 0o755); err != nil {
			return err
		}
	}
	own, err := c.authority.pair()
	if err != nil {
		return err
	}
	server, err := c.authority.server(now)
	if err != nil {
		return err
	}
	accounts, err := c.authority.client(now, "service-accounts") // for the key alone
	if err != nil {
		return err
	}
	admin, err := c.clientConfig(now, "kubernetes-admin", "system:masters")
	if err != nil {
		return err
	}
	manager, err := c.clientConfig(now, "system:kube-controller-manager")
	if err != nil {
		return err
	}
	for name, text := range map[string][]byte{
		authorityFile:     own.certificate,
		authorityKeyFile:  own.key,
		serverFile:        server.certificate,
		serverKeyFile:     server.key,
		accountKeyFile:    accounts.key,
		adminConfigFile:   admin,
		managerConfigFile: manager,
		auditPolicyFile:   []byte(auditPolicy),
	} {
		if err := os.WriteFile(c.path(name), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) start(ctx context.Context, opts Options) error {
	if err := c.run(&c.etcd, "etcd", etcdFlags(c.fsync)); err != nil {
		return err
	}
	if err := c.StartAPIServer(ctx); err != nil {
		return err
	}
	if err := c.serve(ctx, opts.CRDs); err != nil {
		return err
	}
	if err := c.RestartControllerManager(ctx, opts.ControllerManagerArgs...); err != nil {
		return err
	}
	return c.awaitDefaultServiceAccount(ctx)
}

// Established has "kubectl wait" wait until CRDs are served. It takes "condition=Established" for an error while nobody has written any
// condition yet.
const Established = `--for=jsonpath={.status.conditions[?(@.type=="Established")].status}=True`

// serve applies CustomResourceDefinitions and waits until their kinds are served.
func (c *Cluster) serve(ctx context.Context, crds []string) error {
	if len(crds) == 0 {
		return nil
	}
	files := []string{}
	for _, path := range crds {
		files = append(files, "-f", path)
	}
	if _, _, err := c.Kubectl(ctx, append([]string{"apply"}, files...)...); err != nil {
		return err
	}
	limit := "--timeout=" + patience.String()
	_, _, err := c.Kubectl(ctx, append([]string{"wait", Established, limit}, files...)...)
	return err
}

// run starts a component where none runs in its place.
func (c *Cluster) run(place **process.Process, name string, flags []string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.halted:
		return fmt.Errorf("starting %s: %w", name, errStopped)
	case *place != nil:
		return fmt.Errorf("starting %s: it runs already", name)
	}
	p, err := process.Start(c.kubernetes.ControlPlane, name, c.dir, filepath.Join(c.LogDir(), name+".log"), flags)
	*place = p
	return err
}

// end stops the component in a place, if one is there.
func (c *Cluster) end(place **process.Process) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if *place == nil {
		return nil
	}
	err := (*place).Stop()
	*place = nil
	return err
}

// Stop ends every component and removes the scratch folder. Stopping again does nothing
// and returns the same error, which also names components that had ended by themselves.
func (c *Cluster) Stop() error { return errors.Join(c.halt(), c.remove()) }

// haltAll ends every component for good and gives the ports back.
func (c *Cluster) haltAll() error {
	c.mu.Lock()
	c.halted = true
	c.mu.Unlock()
	errs := []error{c.end(&c.controllerManager), c.end(&c.apiServer), c.end(&c.etcd)}
	for _, p := range []*port{c.apiServerPort, c.controllerManagerPort} {
		if p != nil {
			errs = append(errs, p.release())
		}
	}
	return errors.Join(errs...)
}

// StopAPIServer kills the API server; whatever it confirmed is kept. etcd and the
// controller manager keep running. Stopping it again does nothing.
func (c *Cluster) StopAPIServer() error { return c.end(&c.apiServer) }

// StartAPIServer starts the API server that StopAPIServer stopped, at the same address
// and with the same data, and returns once it is ready.
func (c *Cluster) StartAPIServer(ctx context.Context) error {
	if err := c.run(&c.apiServer, "kube-apiserver", apiServerFlags(c.apiServerPort.number, c.apiServerArgs)); err != nil {
		return err
	}
	return c.awaitHealth(ctx, "kube-apiserver", c.apiServerPort, "/readyz")
}

// RestartControllerManager kills the controller manager and starts it again, with args
// after the usual flags; those of before are gone. It returns once the new one is
// healthy; its controllers may still be filling their caches then. The new one knows of
// every kind that is served by now, as the old one may not (see Options.CRDs).
func (c *Cluster) RestartControllerManager(ctx context.Context, args ...string) error {
	if err := c.end(&c.controllerManager); err != nil {
		return err
	}
	flags := controllerManagerFlags(c.controllerManagerPort.number, args)
	if err := c.run(&c.controllerManager, "kube-controller-manager", flags); err != nil {
		return err
	}
	return c.awaitHealth(ctx, "kube-controller-manager", c.controllerManagerPort, "/healthz")
}

// Version of Kubernetes that the cluster runs, as in v1.36.3.
func (c *Cluster) Version() string { return c.kubernetes.Version }

// Dir is the scratch folder.
func (c *Cluster) Dir() string { return c.dir }

// LogDir is the folder of the components' logs, one file for each, and of the audit log.
func (c *Cluster) LogDir() string { return c.path(logFolder) }

func (c *Cluster) path(name string) string { return filepath.Join(c.dir, name) }

func (c *Cluster) url(p *port) string { return "https://127.0.0.1:" + strconv.Itoa(p.number) }
