// onnxruntime 1.30 starts a telemetry client of its own on Linux, macOS and Windows unless this variable is set before its
// library is loaded: it looks for an upload server and leaves a mat-debug-<pid>.log in the temporary folder of every process.
// Nothing about a user's models may leave the machine. Import this file before 'onnxruntime-node'.

process.env['ORT_DISABLE_TELEMETRY'] = '1'
