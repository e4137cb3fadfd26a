// Runs in a network namespace of its own (test/http/vanished-client.test.ts): a client asks for what takes long, then the network
// goes down and the client with it, so that no FIN and no RST ever arrives. Prints the seconds until the server let go.

import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import express from 'express'
import { loadConfig } from '../../src/config.ts'
import { listen } from '../../src/http/server.ts'

const VANISHED_AFTER_MS = 1000

const app = express()
const asked = Promise.withResolvers<void>()
const gone = Promise.withResolvers<void>()
app.get('/long', (_request, response) => {
  response.once('close', () => gone.resolve())
  asked.resolve()
})
const { url } = await listen(app, loadConfig({ TENSORPRESS_PORT: '0' }), null, VANISHED_AFTER_MS)
const client = spawn(process.execPath, ['-e', `fetch('${url}/long')`])
await asked.promise
execFileSync('ip', ['link', 'set', 'lo', 'down'])
const start = performance.now()
client.kill('SIGKILL')
await once(client, 'exit')
await gone.promise
process.stdout.write(`${((performance.now() - start) / 1000).toFixed(1)}\n`)
process.exit(0)
