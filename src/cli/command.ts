// What a sub-command is, and how its command line is read: options and positionals declared as data, parsed by node:util's
// tokeniser, unknown ones refused with the nearest known name. Entry: parseCommandLine(). Every complaint is a `usage` error.

import { parseArgs } from 'node:util'
import { AppError } from '../errors.ts'
import { nearest } from '../nearest.ts'

export interface OptionSpec {
  /** Placeholder of the value in the help, such as FILE; absent: a switch without value. */
  value?: string
  short?: string
  summary: string
  /** May be given several times. */
  multiple?: boolean
}

export interface PositionalSpec {
  name: string
  summary: string
  required: boolean
}

export interface Command {
  name: string
  summary: string
  /** Paragraphs between the synopsis and the options. */
  description: string[]
  positionals: PositionalSpec[]
  options: Record<string, OptionSpec>
  examples: { line: string; meaning: string }[]
  /** Resolves with the exit code. Throws AppError. */
  run(args: CommandLine): Promise<number>
}

/** A parsed command line. Asking for a name that the command does not declare is a bug and throws. */
export interface CommandLine {
  positionals: string[]
  text(option: string): string | undefined
  texts(option: string): string[]
  given(option: string): boolean
}

/** Throws `usage`. */
export function parseCommandLine(command: Command, argv: string[]): CommandLine {
  const { tokens } = parseArgs({
    args: argv,
    options: Object.fromEntries(
      Object.entries(command.options).map(([name, spec]) => [
        name,
        { type: spec.value === undefined ? 'boolean' : 'string', ...(spec.short ? { short: spec.short } : {}) },
      ]),
    ),
    strict: false,
    tokens: true,
    allowPositionals: true,
  })
  const values = new Map<string, string[]>()
  const positionals: string[] = []
  for (const token of tokens) {
    if (token.kind === 'positional') positionals.push(token.value)
    if (token.kind !== 'option') continue
    const spec = command.options[token.name]
    if (spec === undefined) throw unknownOption(command, token.rawName)
    const value = checkedValue(command, token.rawName, spec, token.value, token.inlineValue === true)
    const earlier = values.get(token.name) ?? []
    if (earlier.length > 0 && spec.value !== undefined && !spec.multiple) {
      throw usage(command, `${token.rawName} was given twice: ${earlier[0]} and ${value}`)
    }
    values.set(token.name, [...earlier, value])
  }
  checkPositionals(command, positionals)
  const declared = (name: string) => {
    if (!(name in command.options)) throw new Error(`${command.name} declares no option ${name}`)
    return values.get(name) ?? []
  }
  return {
    positionals,
    text: (name) => declared(name)[0],
    texts: (name) => declared(name),
    given: (name) => declared(name).length > 0,
  }
}

function checkedValue(
  command: Command,
  rawName: string,
  spec: OptionSpec,
  value: string | undefined,
  inline: boolean,
): string {
  if (spec.value === undefined) {
    if (value !== undefined) throw usage(command, `${rawName} takes no value, found "${value}"`)
    return 'true'
  }
  if (value === undefined || value === '') throw usage(command, `${rawName} needs a value: ${rawName} ${spec.value}`)
  if (!inline && value.startsWith('--')) {
    throw usage(
      command,
      `${rawName} needs a value, found the option ${value}; write ${rawName}=${value} if it is meant`,
    )
  }
  return value
}

function checkPositionals(command: Command, found: string[]): void {
  const missing = command.positionals.slice(found.length).find((positional) => positional.required)
  if (missing) throw usage(command, `${missing.name} is missing: ${missing.summary}`)
  const extra = found[command.positionals.length]
  if (extra !== undefined) throw usage(command, `unexpected argument "${extra}"`)
}

export function usage(command: Command, problem: string): AppError {
  return new AppError('usage', `${problem} (tensorpress ${command.name} --help shows the options)`)
}

function unknownOption(command: Command, rawName: string): AppError {
  if (rawName === '--server') {
    return usage(
      command,
      `${command.name} works on this machine only; inspect, plan, compress and doctor take --server`,
    )
  }
  const known = Object.entries(command.options).flatMap(([name, { short }]) => [
    `--${name}`,
    ...(short ? [`-${short}`] : []),
  ])
  const near = nearest(rawName, [...known, '--help'])
  return usage(command, `unknown option ${rawName}${near ? `; did you mean ${near}?` : ''}`)
}
