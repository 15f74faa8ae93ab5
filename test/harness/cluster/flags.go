package cluster

import "strconv"

// What the cluster gives to Services, and of it what the API server takes itself.
const (
	serviceCIDR = "10.96.0.0/12"
	serviceIP   = "10.96.0.1"
)

// Files of a cluster's scratch folder, which is the working folder of its components.
// etcd's are sockets: nothing else on the machine can take their address or connect.
const (
	etcdClientURL      = "unix://etcd:2379"
	etcdPeerURL        = "unix://etcd:2380"
	authorityFile      = "ca.crt"
	authorityKeyFile   = "ca.key"
	serverFile         = "server.crt"
	serverKeyFile      = "server.key"
	accountKeyFile     = "service-accounts.key"
	adminConfigFile    = "admin.kubeconfig"
	managerConfigFile  = "kube-controller-manager.kubeconfig"
	auditPolicyFile    = "audit-policy.yaml"
	etcdFolder         = "etcd-data"
	logFolder          = "logs"
	auditLogFile       = logFolder + "/audit.log"
	kubectlCacheFolder = "kubectl-cache"
)

// auditPolicy logs every request, at its end; a watch also when it begins.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
`

func etcdFlags(fsync bool) []string {
	return []string{
		"--data-dir=" + etcdFolder,
		"--listen-client-url=" + etcdClientURL,
		"--listen-peer-url=" + etcdPeerURL,
		"--fsync=" + strconv.FormatBool(fsync),
	}
}

// apiServerFlags returns the flags of the API server. Where one is given twice the last
// one counts, so extra overrides.
func apiServerFlags(port int, extra []string) []string {
	return append([]string{
		"--etcd-servers=" + etcdClientURL,
		"--bind-address=127.0.0.1",
		"--advertise-address=127.0.0.1",
		"--secure-port=" + strconv.Itoa(port),
		"--permit-port-sharing=true",
		// An Endpoints object cannot hold a loopback address.
		"--endpoint-reconciler-type=none",
		"--enable-aggregator-routing=true", // webhooks of a Service without kube-proxy
		"--service-cluster-ip-range=" + serviceCIDR,
		"--allow-privileged=true",
		"--authorization-mode=Node,RBAC",
		"--client-ca-file=" + authorityFile,
		"--tls-cert-file=" + serverFile,
		"--tls-private-key-file=" + serverKeyFile,
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + accountKeyFile,
		"--service-account-signing-key-file=" + accountKeyFile,
		"--audit-policy-file=" + auditPolicyFile,
		"--audit-log-path=" + auditLogFile,
		"--audit-log-mode=blocking", // a test sees a request once it is answered
		"--audit-log-maxsize=0",     // one file, however long
		"--profiling=false",
	}, extra...)
}

// controllerManagerFlags returns the flags of the controller manager, overridden by extra.
// Its limits are above what a test asks of it, so that it is never what is measured.
func controllerManagerFlags(port int, extra []string) []string {
	return append([]string{
		"--kubeconfig=" + managerConfigFile,
		"--bind-address=127.0.0.1",
		"--secure-port=" + strconv.Itoa(port),
		"--permit-port-sharing=true",
		"--tls-cert-file=" + serverFile,
		"--tls-private-key-file=" + serverKeyFile,
		"--controllers=*",
		"--use-service-account-credentials=true",
		"--leader-elect=false",
		"--root-ca-file=" + authorityFile,
		"--service-account-private-key-file=" + accountKeyFile,
		"--cluster-signing-cert-file=" + authorityFile,
		"--cluster-signing-key-file=" + authorityKeyFile,
		"--service-cluster-ip-range=" + serviceCIDR,
		"--allocate-node-cidrs=false",
		"--kube-api-qps=1000",
		"--kube-api-burst=2000",
		"--concurrent-namespace-syncs=50",
		"--concurrent-gc-syncs=50",
		"--profiling=false",
	}, extra...)
}
