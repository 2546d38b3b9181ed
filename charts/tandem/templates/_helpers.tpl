{{/* What the names of all objects begin with. */}}
{{- define "tandem.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels of a component's pods, which a Deployment's selector can't change: (dict "root" $ "component" "router"). */}}
{{- define "tandem.selector" -}}
app.kubernetes.io/name: tandem
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* Labels of a component's objects. */}}
{{- define "tandem.labels" -}}
{{- with .root.Values.commonLabels }}{{ toYaml . }}{{ "\n" }}{{ end -}}
{{ include "tandem.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: tandem
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* An image's name: (dict "root" $ "image" .Values.router.image). */}}
{{- define "tandem.image" -}}
{{- $name := printf "%s/%s" (.root.Values.image.registry | trimSuffix "/") .image.repository -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $name .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (.image.tag | default .root.Values.image.tag | default .root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* What restricted namespaces demand of a pod. */}}
{{- define "tandem.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* What restricted namespaces demand of a container, and a root that can't be written to. */}}
{{- define "tandem.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Where a pod goes: (dict "at" .Values.operator). */}}
{{- define "tandem.placement" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .topologySpreadConstraints }}
topologySpreadConstraints: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{/* DNS, and what the installation adds: egress that every pod of ours has. */}}
{{- define "tandem.commonEgress" -}}
- to: {{- toYaml .Values.networkPolicies.dns | nindent 4 }}
  ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
{{- with .Values.networkPolicies.extraEgress }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The way to the API server. */}}
{{- define "tandem.apiServerEgress" -}}
- to:
    {{- range .Values.networkPolicies.apiServer.cidrs }}
    - ipBlock: {cidr: {{ . | quote }}}
    {{- end }}
  ports:
    {{- range .Values.networkPolicies.apiServer.ports }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end -}}

{{/* The way to hubs and buckets. An exception has to lie within its network. */}}
{{- define "tandem.downloadEgress" -}}
{{- $d := .Values.networkPolicies.downloads -}}
{{- if and $d.cidrs $d.ports -}}
- to:
    {{- range $cidr := $d.cidrs }}
    - ipBlock:
        cidr: {{ $cidr | quote }}
        {{- $except := list }}
        {{- range $d.except }}
        {{- if and (hasSuffix "/0" $cidr) (eq (contains ":" .) (contains ":" $cidr)) }}{{ $except = append $except . }}{{ end }}
        {{- end }}
        {{- with $except }}
        except: {{- toYaml . | nindent 10 }}
        {{- end }}
    {{- end }}
  ports:
    {{- range $d.ports }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end }}
{{- end -}}

{{/* The Secret whose `api-key` may do everything. */}}
{{- define "tandem.apiKeySecret" -}}
{{ .Values.auth.apiKeySecret | default (printf "%s-api-key" (include "tandem.fullname" .)) }}
{{- end -}}

{{/* The Secret whose `service-key` routers, operator, adapter and registry know each other by. */}}
{{- define "tandem.serviceKeySecret" -}}
{{ .Values.auth.serviceKeySecret | default (printf "%s-service-key" (include "tandem.fullname" .)) }}
{{- end -}}

{{/* Its file, in every pod that has it: a mount, and the volume. */}}
{{- define "tandem.serviceKeyMount" -}}
- {name: service-key, mountPath: /etc/tandem-service-key, readOnly: true}
{{- end -}}
{{- define "tandem.serviceKeyVolume" -}}
- name: service-key
  secret:
    secretName: {{ include "tandem.serviceKeySecret" . }}
    items: [{key: service-key, path: service-key}]
{{- end -}}

{{/* The router's address inside the cluster. */}}
{{- define "tandem.url" -}}
{{- $port := int .Values.router.service.port -}}
http://{{ include "tandem.fullname" . }}-router.{{ .Release.Namespace }}.svc{{ if ne $port 80 }}:{{ $port }}{{ end }}
{{- end -}}

{{/* The registry's base URL inside the cluster: the release's own, another one, or none. */}}
{{- define "tandem.registryUrl" -}}
{{- if .Values.registry.enabled -}}
http://{{ include "tandem.fullname" . }}-registry.{{ .Release.Namespace }}.svc
{{- else -}}
{{ .Values.registry.url }}
{{- end -}}
{{- end -}}

{{/* The way to it, where there is one. Of another installation's only the port is known. */}}
{{- define "tandem.registryEgress" -}}
{{- if .Values.registry.enabled -}}
- to:
    - podSelector:
        matchLabels: {{- include "tandem.selector" (dict "root" . "component" "registry") | nindent 10 }}
      namespaceSelector:
        matchLabels: {kubernetes.io/metadata.name: {{ .Release.Namespace }}}
  ports:
    - {protocol: TCP, port: 8090}
{{- else if .Values.registry.url -}}
- ports:
    - {protocol: TCP, port: {{ regexFind ":[0-9]+(/|$)" .Values.registry.url | trimAll ":/" | default (ternary "443" "80" (hasPrefix "https:" .Values.registry.url)) }}}
{{- end -}}
{{- end -}}

{{/* Namespaces with rights by Roles, beside the release's own. */}}
{{- define "tandem.scope" -}}
{{- if .Values.namespaces }}namespaced{{ else }}cluster{{ end -}}
{{- end -}}
