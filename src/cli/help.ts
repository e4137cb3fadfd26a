// The help texts, made from the same declarations that the command line is parsed by. Wrapped at 100 columns.

import type { Command } from './command.ts'
import { EXIT_CODES } from './exit-codes.ts'

const WIDTH = 100

/** `tensorpress --help`: commands with their summaries. */
export function generalHelp(commands: { name: string; summary: string }[], version: string): string {
  return [
    `tensorpress ${version}: compress ONNX and safetensors models on the GPU and prove what accuracy is left`,
    '',
    'Usage: tensorpress COMMAND [OPTIONS]',
    '',
    'Commands:',
    ...columns(commands.map(({ name, summary }) => [name, summary])),
    '',
    'Options:',
    ...columns([
      ['-h, --help', 'this text; after a command, the help of that command'],
      ['-V, --version', 'the version'],
    ]),
    '',
    'Exit codes:',
    ...columns(Object.entries(EXIT_CODES)),
    '',
  ].join('\n')
}

/** `tensorpress COMMAND --help`. */
export function commandHelp(command: Command): string {
  const positionals = command.positionals.map(({ name, required }) => (required ? name : `[${name}]`))
  const options = Object.entries(command.options).map(([name, { value, short, summary, multiple }]) => [
    `${short ? `-${short}, ` : '    '}--${name}${value ? ` ${value}` : ''}`,
    `${summary}${multiple ? ' (may be repeated)' : ''}`,
  ])
  return [
    `Usage: ${['tensorpress', command.name, ...positionals, '[OPTIONS]'].join(' ')}`,
    '',
    ...wrap(`${command.summary[0]!.toUpperCase()}${command.summary.slice(1)}.`, WIDTH),
    ...command.description.flatMap((paragraph) => ['', ...wrap(paragraph, WIDTH)]),
    ...section(
      'Arguments:',
      command.positionals.map(({ name, summary }) => [name, summary]),
    ),
    ...section('Options:', [...options, ['-h, --help', 'this text']]),
    ...(command.examples.length === 0 ? [] : ['', 'Examples:']),
    ...command.examples.flatMap(({ line, meaning }) => [`  ${line}`, `      ${meaning}`]),
    '',
  ].join('\n')
}

function section(title: string, rows: string[][]): string[] {
  return rows.length === 0 ? [] : ['', title, ...columns(rows)]
}

/** Two columns; the second is wrapped under itself. */
function columns(rows: string[][]): string[] {
  const left = Math.max(...rows.map(([name]) => name!.length))
  return rows.flatMap(([name, text]) =>
    wrap(text!, WIDTH - left - 4).map((line, index) => `  ${(index === 0 ? name! : '').padEnd(left)}  ${line}`),
  )
}

function wrap(text: string, width: number): string[] {
  const lines = ['']
  for (const word of text.split(' ')) {
    const line = lines.at(-1)!
    if (line !== '' && line.length + 1 + word.length > width) lines.push(word)
    else lines[lines.length - 1] = line === '' ? word : `${line} ${word}`
  }
  return lines
}
