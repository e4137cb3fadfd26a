// tensorpress serve: the REST API (src/main.ts) until SIGTERM or Ctrl-C.

import type { Command, CommandLine } from './command.ts'
import { DEVICE_OPTION } from './shared-options.ts'

export const command: Command = {
  name: 'serve',
  summary: 'serve the REST API',
  description: [
    'State lies in one data folder (SQLite and files); no other server is needed. It listens on the loopback address unless told otherwise. SIGTERM or Ctrl-C drains: no new jobs, the running one finishes or goes back to the queue, exit status 0; a second signal ends it at once.',
    'Every option can come from the environment (TENSORPRESS_HOST, TENSORPRESS_PORT, TENSORPRESS_DATA_DIR, TENSORPRESS_DEVICE and one variable per limit: docs/api.md).',
    'Without API keys it serves this machine only and refuses to listen elsewhere. Keys come from TENSORPRESS_API_KEYS, or from the file that TENSORPRESS_API_KEYS_FILE names, which is read again when it changes; tensorpress keys makes one.',
  ],
  positionals: [],
  options: {
    host: { value: 'H', summary: 'address to listen on (default 127.0.0.1)' },
    port: { value: 'P', short: 'p', summary: 'port to listen on; 0: any free one (default 8080)' },
    'data-dir': { value: 'DIR', summary: 'where models, jobs and artifacts are kept (default ./data)' },
    device: DEVICE_OPTION,
    insecure: {
      summary: 'listen beyond loopback without API keys: anybody who reaches it can use and delete everything',
    },
  },
  examples: [
    { line: 'tensorpress serve', meaning: 'http://127.0.0.1:8080, data in ./data' },
    { line: 'tensorpress serve --port 9000 --data-dir /srv/tensorpress', meaning: 'another port and folder' },
  ],
  async run(args: CommandLine) {
    const { serve } = await import('../main.ts')
    return serve({
      host: args.text('host'),
      port: args.text('port'),
      dataDir: args.text('data-dir'),
      device: args.text('device'),
      ...(args.given('insecure') ? { insecure: true } : {}),
    })
  },
}
