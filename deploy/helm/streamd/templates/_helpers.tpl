{{- define "streamd.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "streamd.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "streamd.labels" -}}
{{ include "streamd.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "streamd.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "streamd.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{- define "streamd.image" -}}
{{- $image := .Values.image -}}
{{- $image.repository -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default .Chart.AppVersion }}{{ end -}}
{{- end -}}

{{/* One text with commas, whether the configuration has a list or a text. */}}
{{- define "streamd.bootstrapServers" -}}
{{- $servers := .Values.config.kafka.bootstrap_servers -}}
{{- if kindIs "slice" $servers }}{{ join "," $servers }}{{ else }}{{ $servers }}{{ end -}}
{{- end -}}
