{{/*
Checks the values beyond what values.schema.json can. All faults are reported at once, before anything is installed, with the value's
path and what to write instead. No message repeats a password, or a value that may hold one by mistake.
*/}}
{{- define "tcr-assistant.validate" -}}
{{- $faults := dict "list" (list) -}}
{{- if not .Values.image.repository -}}
{{- include "tcr-assistant.fault" (list $faults "image.repository" "must be set. There is no default, because whoever owned a default name would own the cluster: write where you pushed the image to, such as registry.example.com/tcr-assistant (make image PUSH=registry.example.com/tcr-assistant:v0.1.0), or the name under which you loaded its archive into the nodes (make image)") -}}
{{- end -}}
{{- include "tcr-assistant.validate.image" (list $faults .Values.image) -}}
{{- include "tcr-assistant.validate.webhook" (list $faults .) -}}
{{- include "tcr-assistant.validate.signer" (list $faults .Values.webhook.certSigner) -}}
{{- include "tcr-assistant.validate.duration" (list $faults .Values.webhook.certDuration) -}}
{{- if and (eq .Values.rbac.secrets "narrowed") (not .Values.admissionPolicies.restrictManager) -}}
{{- include "tcr-assistant.fault" (list $faults "rbac.secrets" "must not be narrowed if admissionPolicies.restrictManager is false: the manager itself lists in a role which Secrets it may read, and only that policy keeps it from writing anything else there. Write admissionPolicies.restrictManager: true, or rbac.secrets: all, or named") -}}
{{- end -}}
{{- include "tcr-assistant.validate.authority" (list $faults "webhook.clientCA" .Values.webhook.clientCA "the authority that signs the API servers' client certificates") -}}
{{- include "tcr-assistant.validate.cloud" (list $faults (.Values.global.tcr | default dict)) -}}
{{- $namespace := .Values.hostsUpdater.namespace -}}
{{- if and $namespace (not (kindIs "string" $namespace)) -}}
{{- include "tcr-assistant.fault" (list $faults "hostsUpdater.namespace" "is a number, which Helm may have changed: write it in quotes, or pass it by --set-string instead of --set") -}}
{{- else if and $namespace (not (regexMatch "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$" $namespace)) -}}
{{- include "tcr-assistant.fault" (list $faults "hostsUpdater.namespace" (printf "%q is not a valid namespace name: write one of lower case letters, digits and \"-\", such as kube-system" $namespace)) -}}
{{- end -}}
{{- $budget := .Values.manager.podDisruptionBudget.maxUnavailable -}}
{{- if and (kindIs "string" $budget) (not (regexMatch "^[0-9]+%$" $budget)) -}}
{{- include "tcr-assistant.fault" (list $faults "manager.podDisruptionBudget.maxUnavailable" (printf "%q must be a number, or a percentage such as 50%%" $budget)) -}}
{{- end -}}
{{- $nodes := .Values.hostsUpdater.maxUnavailable -}}
{{- if and (kindIs "string" $nodes) (not (regexMatch "^(100|[1-9][0-9]?)%$" $nodes)) -}}
{{- include "tcr-assistant.fault" (list $faults "hostsUpdater.maxUnavailable" (printf "%q must be a number of at least 1, or a percentage from 1%% to 100%%" $nodes)) -}}
{{- end -}}
{{- $labels := dict "manager.podLabels" .Values.manager.podLabels "hostsUpdater.podLabels" .Values.hostsUpdater.podLabels "monitoring.serviceMonitor.labels" .Values.monitoring.serviceMonitor.labels "monitoring.prometheusRule.labels" .Values.monitoring.prometheusRule.labels -}}
{{- range $path := keys $labels | sortAlpha -}}
{{- range $key := keys (get $labels $path | default dict) | sortAlpha -}}
{{- if has $key (list "app.kubernetes.io/name" "app.kubernetes.io/component" "app.kubernetes.io/version") -}}
{{- include "tcr-assistant.fault" (list $faults $path (printf "must not contain %q, which the chart sets itself: selectors depend on it" $key)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $names := dict -}}
{{- $crd := .Files.Get "crds/tcr.tencentcloudcr.com_imagepullsecrets.yaml" | fromYaml -}}
{{- $object := (first $crd.spec.versions).schema.openAPIV3Schema -}}
{{- $spec := $object.properties.spec.properties -}}
{{- range $i, $cr := .Values.global.imagePullSecretsCrs -}}
{{- $path := printf "global.imagePullSecretsCrs[%d]" $i -}}
{{- $name := include "tcr-assistant.text" $cr.name -}}
{{- $existing := dict -}}
{{- if and $.Release.IsUpgrade (or (kindIs "float64" $cr.name) (kindIs "float64" $cr.dockerUsername)) -}}
{{- $existing = lookup "tcr.tencentcloudcr.com/v1" "ImagePullSecret" "" $name -}}
{{- end -}}
{{- include "tcr-assistant.validate.text" (list $faults (printf "%s.name" $path) $cr.name (dig "metadata" "name" "" $existing)) -}}
{{- include "tcr-assistant.validate.text" (list $faults (printf "%s.dockerUsername" $path) $cr.dockerUsername (dig "spec" "docker" "username" "" $existing)) -}}
{{- if not (regexMatch "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$" $name) -}}
{{- include "tcr-assistant.fault" (list $faults (printf "%s.name" $path) (printf "%q is not a valid object name: write one of lower case letters, digits, \"-\" and \".\", such as team-a" $name)) -}}
{{- end -}}
{{- include "tcr-assistant.rules" (list $faults (printf "%s.name" $path) $name $object) -}}
{{- include "tcr-assistant.rules" (list $faults (printf "%s.namespaces" $path) ($cr.namespaces | default "") $spec.namespaces) -}}
{{- include "tcr-assistant.rules" (list $faults (printf "%s.serviceAccounts" $path) ($cr.serviceAccounts | default "") $spec.serviceAccounts) -}}
{{- include "tcr-assistant.validate.selection" (list $faults $path $cr $object.properties.spec) -}}
{{- include "tcr-assistant.validate.once" (list $faults (printf "%s.namespaces" $path) $cr.namespaces) -}}
{{- include "tcr-assistant.validate.once" (list $faults (printf "%s.serviceAccounts" $path) $cr.serviceAccounts) -}}
{{- include "tcr-assistant.validate.credential" (list $faults $path $cr $object.properties.spec) -}}
{{- include "tcr-assistant.validate.fields" (list $faults (printf "%s.check" $path) $cr.check $spec.check) -}}
{{- if hasKey $names $name -}}
{{- include "tcr-assistant.fault" (list $faults (printf "%s.name" $path) (printf "%q is already the name of %s: write another one" $name (get $names $name))) -}}
{{- end -}}
{{- $_ := set $names $name $path -}}
{{- end -}}
{{- $taken := dict -}}
{{- range $i, $host := .Values.global.hosts -}}
{{- if ne (lower (toString $host.disabled)) "true" -}}
{{- include "tcr-assistant.validate.host" (list $faults (printf "global.hosts[%d]" $i) $host $taken) -}}
{{- end -}}
{{- end -}}
{{- if $faults.list -}}
{{- fail (printf "\n\nThese values cannot be installed:\n- %s\n" (join "\n- " $faults.list)) -}}
{{- end -}}
{{- end -}}

{{/*
Checks the credential of an entry: each value, and all of them together. The rules of the CRD about spec.docker and spec.tcr are applied
to the values for both, which are not nested in spec.docker here.
*/}}
{{- define "tcr-assistant.validate.credential" -}}
{{- $faults := index . 0 -}}{{- $path := index . 1 -}}{{- $cr := index . 2 -}}{{- $spec := index . 3 -}}{{- $docker := $spec.properties.docker -}}
{{- $set := dict -}}
{{- if not (kindIs "invalid" $cr.dockerServer) -}}
{{- $_ := set $set "server" $cr.dockerServer -}}
{{- include "tcr-assistant.rules" (list $faults (printf "%s.dockerServer" $path) $cr.dockerServer $docker.properties.server) -}}
{{- end -}}
{{- $username := include "tcr-assistant.text" $cr.dockerUsername -}}
{{- if not (kindIs "invalid" $cr.dockerUsername) -}}
{{- $_ := set $set "username" $username -}}
{{- include "tcr-assistant.rules" (list $faults (printf "%s.dockerUsername" $path) $username $docker.properties.username) -}}
{{- end -}}
{{- if not (kindIs "invalid" $cr.dockerPassword) -}}
{{- $_ := set $set "password" $cr.dockerPassword -}}
{{- if not (kindIs "string" $cr.dockerPassword) -}}
{{- include "tcr-assistant.fault" (list $faults (printf "%s.dockerPassword" $path) "must be a string: write it in quotes, or pass it by --set-string instead of --set") -}}
{{- else -}}
{{- include "tcr-assistant.rules" (list $faults (printf "%s.dockerPassword" $path) $cr.dockerPassword $docker.properties.password) -}}
{{- $auths := dict -}}
{{- range prepend ($cr.additionalServers | default list) ($cr.dockerServer | default "") -}}
{{- $_ := set $auths . (dict "username" $username "password" $cr.dockerPassword "auth" (printf "%s:%s" $username $cr.dockerPassword | b64enc)) -}}
{{- end -}}
{{- if gt (len (toJson (dict "auths" $auths))) 1048576 -}}
{{- include "tcr-assistant.fault" (list $faults (printf "%s.dockerPassword" $path) "makes a Secret of more than 1 MiB, which cannot be stored: write a shorter password, or fewer servers") -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with $cr.secretRef -}}
{{- $_ := set $set "secretRef" . -}}
{{- include "tcr-assistant.rules" (list $faults (printf "%s.secretRef.name" $path) .name $docker.properties.secretRef.properties.name) -}}
{{- end -}}
{{- with $cr.additionalServers -}}
{{- $_ := set $set "additionalServers" . -}}
{{- include "tcr-assistant.rules" (list $faults (printf "%s.additionalServers" $path) . $docker.properties.additionalServers) -}}
{{- range $i, $server := . -}}
{{- include "tcr-assistant.rules" (list $faults (printf "%s.additionalServers[%d]" $path $i) $server $docker.properties.additionalServers.items) -}}
{{- end -}}
{{- end -}}
{{- $keys := dict "" ".secretRef" ".username" ".dockerUsername" ".password" ".dockerPassword" ".secretRef" ".secretRef" ".additionalServers" ".additionalServers" -}}
{{- include "tcr-assistant.rules" (list $faults $path $set $docker $keys) -}}
{{- if $set -}}{{- $_ := set $set "docker" true -}}{{- end -}}
{{- with $cr.tcr -}}
{{- $_ := set $set "tcr" . -}}
{{- end -}}
{{- $tcr := $cr.tcr | default dict -}}
{{- include "tcr-assistant.validate.fields" (list $faults (printf "%s.tcr" $path) (omit $tcr "privateNetwork") $spec.properties.tcr) -}}
{{- if $tcr -}}
{{- include "tcr-assistant.validate.network" (list $faults (printf "%s.tcr.privateNetwork" $path) ($tcr.privateNetwork | default dict) $spec.properties.tcr.properties.privateNetwork.properties) -}}
{{- end -}}
{{- $at := dict ".docker" ".secretRef" ".docker.server" ".dockerServer" -}}
{{- range index $spec "x-kubernetes-validations" -}}
{{- if hasPrefix ".docker" (.fieldPath | default "") -}}
{{- if ne (include "tcr-assistant.rule" (list (replace "self.docker." "self." .rule) $set)) "T" -}}
{{- include "tcr-assistant.fault" (list $faults (printf "%s%s" $path (get $at .fieldPath)) .message) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Checks the fields of an object, each by the CRD's rules for it. A map is a reference to a Secret. */}}
{{- define "tcr-assistant.validate.fields" -}}
{{- $faults := index . 0 -}}{{- $path := index . 1 -}}{{- $schema := index . 3 -}}
{{- range $key, $value := index . 2 | default dict -}}
{{- $at := printf "%s.%s" $path $key -}}{{- $rules := get $schema.properties $key -}}
{{- if kindIs "map" $value -}}
{{- include "tcr-assistant.rules" (list $faults (printf "%s.name" $at) $value.name $rules.properties.name) -}}
{{- else if kindIs "slice" $value -}}
{{- include "tcr-assistant.rules" (list $faults $at $value $rules) -}}
{{- range $i, $one := $value -}}
{{- include "tcr-assistant.rules" (list $faults (printf "%s[%d]" $at $i) $one $rules.items) -}}
{{- end -}}
{{- else if kindIs "string" $value -}}
{{- include "tcr-assistant.rules" (list $faults $at $value $rules) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Checks the private network of an entry. */}}
{{- define "tcr-assistant.validate.network" -}}
{{- $faults := index . 0 -}}{{- $path := index . 1 -}}{{- $network := index . 2 -}}{{- $schema := index . 3 -}}{{- $domains := $network.domains | default list -}}
{{- include "tcr-assistant.rules" (list $faults (printf "%s.vpcId" $path) ($network.vpcId | default "") $schema.vpcId) -}}
{{- include "tcr-assistant.rules" (list $faults (printf "%s.domains" $path) $domains $schema.domains) -}}
{{- range $i, $domain := $domains -}}
{{- $at := printf "%s.domains[%d]" $path $i -}}
{{- include "tcr-assistant.rules" (list $faults $at $domain $schema.domains.items) -}}
{{- if has $domain (slice $domains 0 $i) -}}
{{- include "tcr-assistant.fault" (list $faults $at (printf "Duplicate value: %q" $domain)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "tcr-assistant.fault" -}}
{{- $faults := index . 0 -}}
{{- $_ := set $faults "list" (append $faults.list (printf "%s: %s" (index . 1) (index . 2))) -}}
{{- end -}}

{{/* Checks where the image is: its repository, tag and digest. */}}
{{- define "tcr-assistant.validate.image" -}}
{{- $faults := index . 0 -}}{{- $image := index . 1 -}}{{- $repository := $image.repository -}}{{- $at := "image.repository" -}}
{{- if contains "://" $repository -}}
{{- include "tcr-assistant.fault" (list $faults $at (printf "%q must be without a scheme: write %s" $repository (regexReplaceAll "^.*://" $repository ""))) -}}
{{- else if contains "@" $repository -}}
{{- include "tcr-assistant.fault" (list $faults $at (printf "%q names a digest: write that in image.digest" $repository)) -}}
{{- else if contains ":" (last (splitList "/" $repository)) -}}
{{- include "tcr-assistant.fault" (list $faults $at (printf "%q names a tag: write the tag in image.tag" $repository)) -}}
{{- else if not (regexMatch "^(([a-zA-Z0-9.-]+(:[0-9]+)?/)?[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*)?$" $repository) -}}
{{- include "tcr-assistant.fault" (list $faults $at (printf "%q must be a registry's host and a path of lower case letters, digits and \".\", \"_\", \"-\", such as registry.example.com/tcr-assistant" $repository)) -}}
{{- end -}}
{{- if or (kindIs "float64" $image.tag) (kindIs "int64" $image.tag) -}}
{{- include "tcr-assistant.fault" (list $faults "image.tag" "is a number, which Helm may have changed: write it in quotes, or pass it by --set-string instead of --set") -}}
{{- else if not (regexMatch "^([A-Za-z0-9_][-A-Za-z0-9_.]{0,127})?$" ($image.tag | default "")) -}}
{{- include "tcr-assistant.fault" (list $faults "image.tag" (printf "%q must be a tag: at most 128 letters, digits and \".\", \"_\", \"-\", such as v0.1.0" $image.tag)) -}}
{{- end -}}
{{- if not (regexMatch "^(sha256:[0-9a-f]{64})?$" ($image.digest | default "")) -}}
{{- include "tcr-assistant.fault" (list $faults "image.digest" (printf "%q must be sha256: and 64 digits or letters from a to f, as the registry shows it" $image.digest)) -}}
{{- end -}}
{{- end -}}

{{/* Accounts must be born with their entries: through the webhook or the admission policy. */}}
{{- define "tcr-assistant.validate.webhook" -}}
{{- $faults := index . 0 -}}{{- $root := index . 1 -}}{{- $webhook := $root.Values.webhook -}}
{{- $off := and $webhook.enabled (eq (toString $webhook.mutating) "false") -}}
{{- if or $off (not $webhook.enabled) -}}
{{- $at := ternary "webhook.mutating" "webhook.enabled" $off -}}
{{- $instead := ternary "auto" "true" $off -}}
{{- if not (include "tcr-assistant.servesPolicy" $root) -}}
{{- include "tcr-assistant.fault" (list $faults $at (printf "must not be false on this API server, %s, which cannot attach Secrets by itself: it has no MutatingAdmissionPolicy in admissionregistration.k8s.io/v1, which exists from Kubernetes 1.36 on. Write %s: %s; or, if this is rendered for another cluster, pass that cluster's version and API (--kube-version 1.36.0 --api-versions admissionregistration.k8s.io/v1/MutatingAdmissionPolicy)" $root.Capabilities.KubeVersion.Version $at $instead)) -}}
{{- else if not (include "tcr-assistant.attaches" $root) -}}
{{- include "tcr-assistant.fault" (list $faults $at (printf "must not be false if admissionPolicies.attach is false: nothing would attach Secrets to new ServiceAccounts. Write %s: %s, or admissionPolicies.attach: auto" $at $instead)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Checks the PEM text of a CA, which may be blank. */}}
{{- define "tcr-assistant.validate.authority" -}}
{{- $faults := index . 0 -}}{{- $path := index . 1 -}}{{- $text := index . 2 | default "" -}}{{- $whose := index . 3 -}}
{{- if contains "PRIVATE KEY" $text -}}
{{- include "tcr-assistant.fault" (list $faults $path "holds a private key: write only the CA's certificate, and replace that key") -}}
{{- else if and $text (not (contains "-----BEGIN CERTIFICATE-----" $text)) -}}
{{- include "tcr-assistant.fault" (list $faults $path (printf "holds no certificate: write the PEM text of %s, or pass its file by --set-file %s=ca.crt" $whose $path)) -}}
{{- end -}}
{{- end -}}

{{/* Checks how the cloud is reached, as the manager does. No address is repeated: it may hold a password. */}}
{{- define "tcr-assistant.validate.cloud" -}}
{{- $faults := index . 0 -}}{{- $cloud := index . 1 -}}
{{- $host := "([A-Za-z0-9._-]+|\\[[0-9a-fA-F:.]+\\])(:[0-9]{1,5})?/?$" -}}
{{- if not (regexMatch (printf "^$|^https://%s" $host) ($cloud.endpoint | default "" | replace "{service}" "tcr")) -}}
{{- include "tcr-assistant.fault" (list $faults "global.tcr.endpoint" "must be an https URL with nothing but a host: write one such as https://{service}.internal.tencentcloudapi.com") -}}
{{- end -}}
{{- if not (regexMatch (printf "^$|^https?://%s" $host) ($cloud.metadataEndpoint | default "")) -}}
{{- include "tcr-assistant.fault" (list $faults "global.tcr.metadataEndpoint" "must be an http or https URL with nothing but a host: write one such as http://metadata.tencentyun.com") -}}
{{- end -}}
{{- if not (regexMatch (printf "^$|^https?://%s" $host) ($cloud.httpsProxy | default "")) -}}
{{- include "tcr-assistant.fault" (list $faults "global.tcr.httpsProxy" "must be an http or https URL with nothing but a host, and without a password, which everybody could read in the Deployment: write one such as http://proxy.example.com:3128") -}}
{{- end -}}
{{- if not (regexMatch "^[^\\s,$]*(, ?[^\\s,$]+)*$" ($cloud.noProxy | default "")) -}}
{{- include "tcr-assistant.fault" (list $faults "global.tcr.noProxy" "must be hosts, domains and networks, separated by \",\": write a list such as .example.com,10.0.0.0/8") -}}
{{- else if and $cloud.noProxy (not $cloud.httpsProxy) -}}
{{- include "tcr-assistant.fault" (list $faults "global.tcr.noProxy" "has no effect without a proxy: write global.tcr.httpsProxy, or leave it blank") -}}
{{- end -}}
{{- if not (regexMatch "^(cls-[a-z0-9]{1,32})?$" ($cloud.clusterId | default "")) -}}
{{- include "tcr-assistant.fault" (list $faults "global.tcr.clusterId" (printf "%q must be the id of a cluster, such as cls-xxxxxxxx" $cloud.clusterId)) -}}
{{- end -}}
{{- if not (regexMatch "^(qcs::cam::uin/[0-9]+:role(Name)?/[A-Za-z0-9+=,.@_/-]{1,256})?$" ($cloud.roleArn | default "")) -}}
{{- include "tcr-assistant.fault" (list $faults "global.tcr.roleArn" (printf "%q must be the name of a CAM role as its page shows it: write one such as qcs::cam::uin/100000000001:roleName/tcr-assistant" $cloud.roleArn)) -}}
{{- end -}}
{{- if and $cloud.roleArn $cloud.credentialsSecretRef -}}
{{- include "tcr-assistant.fault" (list $faults "global.tcr.credentialsSecretRef" "has no effect together with global.tcr.roleArn, which takes precedence: set only one of the two") -}}
{{- end -}}
{{- include "tcr-assistant.validate.authority" (list $faults "global.tcr.ca" $cloud.ca "the authority that signs the certificate of the cloud's API, or of a proxy") -}}
{{- $sources := list -}}
{{- range $key := list "ca" "caConfigMapRef" "caSecretRef" -}}
{{- if get $cloud $key -}}{{- $sources = append $sources (printf "global.tcr.%s" $key) -}}{{- end -}}
{{- end -}}
{{- if gt (len $sources) 1 -}}
{{- include "tcr-assistant.fault" (list $faults (last $sources) (printf "must not be set together with %s: write the certificates in one place" (first $sources))) -}}
{{- end -}}
{{- range $key := list "caConfigMapRef" "caSecretRef" "credentialsSecretRef" -}}
{{- with get $cloud $key -}}
{{- if not (regexMatch "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$" (.name | default "")) -}}
{{- include "tcr-assistant.fault" (list $faults (printf "global.tcr.%s.name" $key) (printf "%q is not a valid object name: write the name of one in the release's namespace" (.name | default ""))) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Checks the signer, as the manager does. */}}
{{- define "tcr-assistant.validate.signer" -}}
{{- $faults := index . 0 -}}{{- $signer := index . 1 -}}{{- $at := "webhook.certSigner" -}}
{{- $part := "[a-z0-9]([-a-z0-9]{0,251}[a-z0-9])?" -}}
{{- if or (not (regexMatch (printf "^%s(\\.%s)+/%s(\\.%s)*$" $part $part $part $part) $signer)) (gt (len (first (splitList "/" $signer))) 253) -}}
{{- include "tcr-assistant.fault" (list $faults $at (printf "%q must be a domain and a name of lower case letters, digits and \"-\": write one such as kubernetes.io/kubelet-serving" $signer)) -}}
{{- else if and (hasPrefix "kubernetes.io/" $signer) (ne $signer "kubernetes.io/kubelet-serving") -}}
{{- include "tcr-assistant.fault" (list $faults $at (printf "%q issues no serving certificates: write kubernetes.io/kubelet-serving" $signer)) -}}
{{- end -}}
{{- end -}}

{{/* Checks the lifetime, as the manager reads it: numbers with units, whose sum is within bounds. */}}
{{- define "tcr-assistant.validate.duration" -}}
{{- $faults := index . 0 -}}{{- $text := index . 1 | default "" -}}
{{- $seconds := 0.0 -}}
{{- $number := "([0-9]+(\\.[0-9]*)?|\\.[0-9]+)" -}}{{- $unit := "(h|ms|us|µs|ns|m|s)" -}}
{{- $whole := regexMatch (printf "^(%s%s)+$" $number $unit) $text -}}
{{- if $whole -}}
{{- $units := dict "h" 3600.0 "m" 60.0 "s" 1.0 "ms" 1e-3 "us" 1e-6 "µs" 1e-6 "ns" 1e-9 -}}
{{- range regexFindAll (printf "%s%s" $number $unit) $text -1 -}}
{{- $name := regexFind "[^0-9.]+$" . -}}
{{- $seconds = addf $seconds (mulf (float64 (trimSuffix $name .)) (get $units $name)) -}}
{{- end -}}
{{- end -}}
{{- if and $text (or (not $whole) (lt $seconds 600.0) (gt $seconds 315360000.0)) -}}
{{- include "tcr-assistant.fault" (list $faults "webhook.certDuration" (printf "%q must be from 10m (the certificates API's minimum) to 87600h (ten years): write a number with its unit, such as 2160h" $text)) -}}
{{- end -}}
{{- end -}}

{{/*
Checks a string that may be a number. Of a number in a file it is not known how it was written: 1e5, 12.0, 1_000 and 0100012345670 are
other numbers by the time they arrive here. A number passed by --set keeps its digits, unless --reuse-values reads it from the release,
as if from a file. It is accepted then if it equals what the cluster has.
*/}}
{{- define "tcr-assistant.validate.text" -}}
{{- $faults := index . 0 -}}{{- $path := index . 1 -}}{{- $value := index . 2 -}}{{- $known := index . 3 -}}
{{- if and (kindIs "float64" $value) (ne (include "tcr-assistant.text" $value) $known) -}}
{{- include "tcr-assistant.fault" (list $faults $path "is a number, which Helm may have changed: write it in quotes") -}}
{{- end -}}
{{- end -}}

{{/* Refuses a comma-separated list that names something twice. In a rule of the CRD, that would cost too much for a long list. */}}
{{- define "tcr-assistant.validate.once" -}}
{{- $faults := index . 0 -}}{{- $path := index . 1 -}}{{- $seen := dict -}}
{{- range splitList "," (index . 2 | default "") -}}
{{- $entry := trim . -}}
{{- if and $entry (hasKey $seen $entry) -}}
{{- include "tcr-assistant.fault" (list $faults $path (printf "%q is listed twice: write it once" $entry)) -}}
{{- end -}}
{{- $_ := set $seen $entry true -}}
{{- end -}}
{{- end -}}

{{/*
Checks the selector and the exclusions of an entry by the CRD's rules, and reports faults in the CRD's words. The rules about more than
one value are repeated here by hand.
*/}}
{{- define "tcr-assistant.validate.selection" -}}
{{- $faults := index . 0 -}}{{- $path := index . 1 -}}{{- $cr := index . 2 -}}{{- $spec := index . 3 -}}
{{- $excluded := dict -}}
{{- range $i, $name := $cr.excludedNamespaces -}}
{{- $at := printf "%s.excludedNamespaces[%d]" $path $i -}}
{{- include "tcr-assistant.rules" (list $faults $at $name $spec.properties.excludedNamespaces.items) -}}
{{- if hasKey $excluded $name -}}
{{- include "tcr-assistant.fault" (list $faults $at (printf "Duplicate value: %q" $name)) -}}
{{- end -}}
{{- $_ := set $excluded $name true -}}
{{- end -}}
{{- if kindIs "map" $cr.namespaceSelector -}}
{{- if contains "*" ($cr.namespaces | default "") -}}
{{- range index $spec "x-kubernetes-validations" -}}
{{- if eq (.fieldPath | default "") ".namespaces" -}}
{{- include "tcr-assistant.fault" (list $faults (printf "%s.namespaces" $path) .message) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $selector := $spec.properties.namespaceSelector.properties -}}
{{- $expression := $selector.matchExpressions.items -}}
{{- $at := printf "%s.namespaceSelector" $path -}}
{{- range $key, $value := $cr.namespaceSelector.matchLabels -}}
{{- include "tcr-assistant.rules" (list $faults (printf "%s.matchLabels" $at) $key $expression.properties.key) -}}
{{- include "tcr-assistant.rules" (list $faults (printf "%s.matchLabels[%s]" $at $key) $value $selector.matchLabels.additionalProperties) -}}
{{- end -}}
{{- range $i, $one := $cr.namespaceSelector.matchExpressions -}}
{{- $at := printf "%s.matchExpressions[%d]" $at $i -}}
{{- include "tcr-assistant.rules" (list $faults (printf "%s.key" $at) $one.key $expression.properties.key) -}}
{{- range $j, $value := $one.values -}}
{{- include "tcr-assistant.rules" (list $faults (printf "%s.values[%d]" $at $j) $value $expression.properties.values.items) -}}
{{- end -}}
{{- if ne (has $one.operator (list "In" "NotIn")) (gt (len ($one.values | default list)) 0) -}}
{{- include "tcr-assistant.fault" (list $faults (printf "%s.values" $at) (first (index $expression "x-kubernetes-validations")).message) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Checks one line of a hosts file. The schema checks that ip is an address. */}}
{{- define "tcr-assistant.validate.host" -}}
{{- $faults := index . 0 -}}{{- $path := index . 1 -}}{{- $host := index . 2 -}}{{- $taken := index . 3 -}}
{{- $domain := trimSuffix "." (lower (trim $host.domain)) -}}
{{- $ip := lower (trim $host.ip) -}}
{{- $at := printf "%s.domain" $path -}}
{{- if not $domain -}}
{{- include "tcr-assistant.fault" (list $faults $at "must not be empty: write a DNS name such as demo-vpc.tencentcloudcr.com") -}}
{{- else if contains "*" $domain -}}
{{- include "tcr-assistant.fault" (list $faults $at (printf "%q is a wildcard, which a hosts file cannot hold: write one entry for each domain" $host.domain)) -}}
{{- else if regexMatch "[/:]" $domain -}}
{{- include "tcr-assistant.fault" (list $faults $at (printf "%q must be a DNS name without scheme, path and port" $host.domain)) -}}
{{- else if or (not (regexMatch "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$" $domain)) (gt (len $domain) 253) -}}
{{- include "tcr-assistant.fault" (list $faults $at (printf "%q must be a DNS name: labels of letters, digits and \"-\", separated by \".\"" $host.domain)) -}}
{{- else if regexMatch "(^|\\.)[0-9]+$" $domain -}}
{{- include "tcr-assistant.fault" (list $faults $at (printf "%q must be a DNS name: the address belongs in ip" $host.domain)) -}}
{{- else if regexMatch "(^|\\.)localhost[46]?$|\\.localdomain[46]?$|^ip6-|^broadcasthost$" $domain -}}
{{- include "tcr-assistant.fault" (list $faults $at (printf "%q is the node's name for itself: write a registry's domain" $host.domain)) -}}
{{- end -}}
{{- /* In the order of the alternatives: unspecified, multicast or broadcast, link-local, an IPv4 address in IPv6 form. */ -}}
{{- if regexMatch "^([0:.]+|(22[4-9]|23[0-9])\\.[0-9.]+|255\\.255\\.255\\.255|ff[0-9a-f]{2}:.*|fe[89ab][0-9a-f]:.*|[0:]*:ffff:([0-9a-f]{1,4}:[0-9a-f]{1,4}|[0-9.]+))$" $ip -}}
{{- include "tcr-assistant.fault" (list $faults (printf "%s.ip" $path) (printf "%q must be an address that every node can reach: no unspecified, multicast, broadcast or link-local one, and no IPv4 address in IPv6 form" $host.ip)) -}}
{{- end -}}
{{- $claim := printf "%s over IPv%s" $domain (ternary "6" "4" (contains ":" $ip)) -}}
{{- if hasKey $taken $claim -}}
{{- include "tcr-assistant.fault" (list $faults $at (printf "%q has an address of this kind from %s already: write one IPv4 and at most one IPv6 address for a domain" $host.domain (get $taken $claim))) -}}
{{- else -}}
{{- $_ := set $taken $claim $path -}}
{{- end -}}
{{- end -}}
