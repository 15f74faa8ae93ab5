{{/*
What is wrong with the values besides what values.schema.json says of them, and besides what the API server says of an
ImagePullSecret: it refuses a bad name, list, server or user name with the field's path and what to write instead, and the install
with it. Every fault is told, with the value's path and what to write instead. No message holds a password, or a value in which
one may stand by mistake.
*/}}
{{- define "tcr-assistant.validate" -}}
{{- $faults := dict "list" (list) -}}
{{- if not .Values.image.repository -}}
{{- include "tcr-assistant.fault" (list $faults "image.repository" "must be set, and has no default, since whoever owned that would own the cluster: write where you pushed the image to, such as registry.example.com/tcr-assistant (make image PUSH=registry.example.com/tcr-assistant:v0.1.0), or the name under which you loaded its archive into the nodes (make image)") -}}
{{- end -}}
{{- $labels := dict "manager.podLabels" .Values.manager.podLabels "hostsUpdater.podLabels" .Values.hostsUpdater.podLabels "monitoring.serviceMonitor.labels" .Values.monitoring.serviceMonitor.labels "monitoring.prometheusRule.labels" .Values.monitoring.prometheusRule.labels -}}
{{- range $path := keys $labels | sortAlpha -}}
{{- range $key := keys (get $labels $path | default dict) | sortAlpha -}}
{{- if has $key (list "app.kubernetes.io/name" "app.kubernetes.io/component" "app.kubernetes.io/version") -}}
{{- include "tcr-assistant.fault" (list $faults $path (printf "must not hold %q, which is the chart's own: selectors name it" $key)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $names := dict -}}
{{- range $i, $cr := .Values.global.imagePullSecretsCrs -}}
{{- $path := printf "global.imagePullSecretsCrs[%d]" $i -}}
{{- $name := include "tcr-assistant.text" $cr.name -}}
{{- $existing := dict -}}
{{- if and $.Release.IsUpgrade (or (kindIs "float64" $cr.name) (kindIs "float64" $cr.dockerUsername)) -}}
{{- $existing = lookup "tcr.tencentcloudcr.com/v1" "ImagePullSecret" "" $name -}}
{{- end -}}
{{- include "tcr-assistant.validate.text" (list $faults (printf "%s.name" $path) $cr.name (dig "metadata" "name" "" $existing)) -}}
{{- include "tcr-assistant.validate.text" (list $faults (printf "%s.dockerUsername" $path) $cr.dockerUsername (dig "spec" "docker" "username" "" $existing)) -}}
{{- include "tcr-assistant.validate.once" (list $faults (printf "%s.namespaces" $path) $cr.namespaces) -}}
{{- include "tcr-assistant.validate.once" (list $faults (printf "%s.serviceAccounts" $path) $cr.serviceAccounts) -}}
{{- if not (kindIs "string" $cr.dockerPassword) -}}
{{- include "tcr-assistant.fault" (list $faults (printf "%s.dockerPassword" $path) "must be a text: write it in quotes, or pass it by --set-string instead of --set") -}}
{{- end -}}
{{- if hasKey $names $name -}}
{{- include "tcr-assistant.fault" (list $faults (printf "%s.name" $path) (printf "%q is the name of %s already: write another" $name (get $names $name))) -}}
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

{{- define "tcr-assistant.fault" -}}
{{- $faults := index . 0 -}}
{{- $_ := set $faults "list" (append $faults.list (printf "%s: %s" (index . 1) (index . 2))) -}}
{{- end -}}

{{/*
A text that may be a number. Of one in a file nobody knows how it was written: 1e5, 12.0, 1_000 and 0100012345670 have become other
numbers before they arrive here. One by --set has kept its digits, unless it was kept in the release meanwhile: --reuse-values
reads it from there as if from a file. Then it is what the cluster has.
*/}}
{{- define "tcr-assistant.validate.text" -}}
{{- $faults := index . 0 -}}{{- $path := index . 1 -}}{{- $value := index . 2 -}}{{- $known := index . 3 -}}
{{- if and (kindIs "float64" $value) (ne (include "tcr-assistant.text" $value) $known) -}}
{{- include "tcr-assistant.fault" (list $faults $path "is a number, which may have lost how it was written: write it in quotes") -}}
{{- end -}}
{{- end -}}

{{/* A comma list in which a name stands twice. No rule of the API server's says that of a long list at a bearable cost. */}}
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

{{/* One line of a hosts file. That ip is an address is said by the schema. */}}
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
