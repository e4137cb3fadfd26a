// tensorpress keys new: a fresh API key. The secret is printed once, the line with its hash is what the server gets.

import { newApiKey, SCOPE_NAMES, SCOPES } from '../access/api-key.ts'
import { type Command, type CommandLine, usage } from './command.ts'
import { JSON_OPTION } from './shared-options.ts'

export const command: Command = {
  name: 'keys',
  summary: 'make an API key for the server',
  description: [
    'Prints a random key, once, and a line with its SHA-256 for the server: in the file that TENSORPRESS_API_KEYS_FILE names (one line a key, read again when it changes) or in TENSORPRESS_API_KEYS (separated by spaces). Nothing is stored and no server is asked.',
    `Scopes: ${SCOPE_NAMES.map((name) => `${name} (${SCOPES[name]})`).join('; ')}.`,
    'To change a secret, add a line with the same name and scopes, move the clients over, and remove the old line.',
  ],
  positionals: [{ name: 'new', summary: 'the only action', required: true }],
  options: {
    name: { value: 'N', summary: 'who the key is for: shown in logs and jobs; lower-case letters, digits, . _ -' },
    scopes: { value: 'LIST', summary: `what it may do, separated by commas: ${SCOPE_NAMES.join(', ')}` },
    json: JSON_OPTION,
  },
  examples: [
    {
      line: 'tensorpress keys new --name ci --scopes read,submit',
      meaning: 'the key on standard output, the line for the server below it',
    },
    {
      line: 'tensorpress keys new --name prometheus --scopes metrics --json | jq -r .entry >> keys',
      meaning: 'only the line, appended to a file of keys; the secret would be in .secret',
    },
  ],
  async run(args: CommandLine) {
    const [action] = args.positionals
    if (action !== 'new') throw usage(command, `unknown action "${action}"; "new" is the only one`)
    const name = args.text('name')
    const scopes = args.text('scopes')
    if (name === undefined) throw usage(command, '--name is missing: it says who the key is for')
    if (scopes === undefined) throw usage(command, `--scopes is missing: one or more of ${SCOPE_NAMES.join(', ')}`)
    const { secret, entry } = newApiKey(name, scopes.split(','))
    if (args.given('json')) {
      process.stdout.write(`${JSON.stringify({ secret, entry })}\n`)
    } else {
      process.stderr.write('Key, shown only now (Authorization: Bearer KEY, or the password of HTTP Basic):\n')
      process.stdout.write(`${secret}\n`)
      process.stderr.write('Line for the server (TENSORPRESS_API_KEYS_FILE or TENSORPRESS_API_KEYS):\n')
      process.stdout.write(`${entry}\n`)
    }
    return 0
  },
}
