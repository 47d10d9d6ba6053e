{{- define "odin-ws.selector" -}}
app.kubernetes.io/name: odin-ws
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "odin-ws.labels" -}}
{{ include "odin-ws.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | quote }}
{{- end }}
