// The server that a campaign works on: a real process with all its children, marked by a variable in its environment, so
// that every process it ever started can be found again; its log goes to a file and is read for bugs. Entry:
// startCampaignServer, stopServer.

import { appendFileSync } from 'node:fs'
import { type Owner, startServer, type TestServer } from '../test/support/server-process.ts'
import { ApiClient } from './api-client.ts'
import { processesWith } from './process-figures.ts'

const MARK = 'TENSORPRESS_CAMPAIGN'
/** What the servers of this process were marked with. */
const marks: string[] = []

export interface CampaignServer extends TestServer {
  pid: number
  api: ApiClient
  device: { adapter: string; driver: string; kind: string }
  /** Processes of this server that live, itself included, also those that lost their parent. */
  processes(): { pid: number; command: string }[]
  /** Log lines that no fault explains: level fatal, or an error with code internal, or an uncaught exception. */
  bugs: string[]
}

export interface ServerSettings {
  dataDir: string
  device: string
  logFile: string
  env?: Record<string, string>
  nodeOptions?: string[]
  maxSockets?: number
}

/** Resolves once it is ready for jobs. */
export async function startCampaignServer(owner: Owner, settings: ServerSettings): Promise<CampaignServer> {
  const { dataDir, device, logFile, env = {}, nodeOptions = [], maxSockets } = settings
  const mark = `${process.pid}-${marks.length}`
  marks.push(mark)
  const bugs: string[] = []
  let rest = ''
  const server = await startServer(owner, dataDir, ['--device', device], {
    env: { ...env, [MARK]: mark },
    nodeOptions,
    onOutput(text) {
      appendFileSync(logFile, text)
      const lines = (rest + text).split('\n')
      rest = lines.pop() ?? ''
      for (const line of lines) if (isBug(line)) bugs.push(line.slice(0, 500))
    },
  })
  const api = new ApiClient(server.url, maxSockets)
  owner.after(() => api.close())
  const { device: opened } = await api.ready()
  return {
    ...server,
    pid: server.process.pid!,
    api,
    device: opened,
    processes: () => processesWith(MARK, mark),
    bugs,
  }
}

/** Whether a line of output tells of a bug rather than of what a client or a fault did. */
export function isBug(line: string): boolean {
  if (!line.startsWith('{'))
    return /\b(Uncaught|unhandled|TypeError|RangeError|ReferenceError|MaxListeners)/i.test(line)
  try {
    const { level, code } = JSON.parse(line) as { level?: string; code?: string }
    return level === 'fatal' || (code === 'internal' && level !== 'debug')
  } catch {
    return true // half a line: the log was torn
  }
}

/** For a campaign that is interrupted: ends every process that its servers started. */
export function killCampaignServers(): void {
  for (const { pid } of marks.flatMap((mark) => processesWith(MARK, mark))) {
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      // it ended by itself meanwhile
    }
  }
}

/** SIGTERM; resolves with how it ended. */
export async function stopServer(server: CampaignServer): Promise<number | NodeJS.Signals> {
  server.api.close()
  server.process.kill('SIGTERM')
  return server.ended
}
