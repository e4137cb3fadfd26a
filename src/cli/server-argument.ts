// --server and TENSORPRESS_SERVER: whether a server does the work. Loads nothing, since most runs have none. Entry: serverOf.

import { type Command, type CommandLine, usage } from './command.ts'

/** null: the work is done here. Throws usage. */
export function serverOf(command: Command, args: CommandLine, environment = process.env): string | null {
  const given = args.text('server')
  const text = given ?? (environment['TENSORPRESS_SERVER'] || undefined)
  if (text === undefined) {
    if (args.given('api-key-file')) throw usage(command, '--api-key-file has no use without --server')
    return null
  }
  const source = given === undefined ? 'TENSORPRESS_SERVER' : '--server'
  const url = URL.parse(text)
  if (url === null || !/^https?:$/.test(url.protocol) || url.search !== '' || url.hash !== '') {
    throw usage(command, `${source} must be an address such as http://127.0.0.1:8080, found "${text}"`)
  }
  if (url.username !== '' || url.password !== '') {
    throw usage(command, `${source} holds a password; give the key in TENSORPRESS_API_KEY or by --api-key-file`)
  }
  if ('device' in command.options && args.given('device')) {
    throw usage(command, '--device has no use with --server: the server works on its own device')
  }
  return url.href
}
