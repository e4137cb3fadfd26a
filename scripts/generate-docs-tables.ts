// Writes the generated parts of hand-written docs: layers and ADRs in docs/architecture.md, presets, methods and skip reasons
// in docs/recipes.md, help texts and exit codes in docs/cli.md. A part stands between `<!-- begin NAME -->` and
// `<!-- end NAME -->`. With --check nothing is written, and the exit status is 1 where a file differs.

import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Command } from '../src/cli/command.ts'
import { EXIT_CODES } from '../src/cli/exit-codes.ts'
import { commandHelp } from '../src/cli/help.ts'
import { PRESETS } from '../src/jobs/presets.ts'
import { METHODS } from '../src/methods/index.ts'
import { SKIP_REASONS } from '../src/tensor/model.ts'
import { LAYERS } from '../test/architecture/layers.ts'

const root = join(import.meta.dirname, '..')

/** In the order of `tensorpress --help`. */
const COMMAND_NAMES = ['serve', 'inspect', 'plan', 'compress', 'validate', 'keys', 'bench', 'gc', 'backup', 'doctor']

function table(header: string[], rows: string[][]): string {
  const line = (cells: string[]) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`
  return [line(header), `|${'---|'.repeat(header.length)}`, ...rows.map(line)].join('\n')
}

const code = (text: string) => `\`${text}\``

function layers(): string {
  return table(
    ['layer of `src/`', 'may import'],
    Object.entries(LAYERS).map(([layer, targets]) => [code(layer), targets.map(code).join(', ') || 'nothing']),
  )
}

function decisions(): string {
  return readdirSync(join(root, 'docs', 'adr'))
    .filter((name) => name.endsWith('.md'))
    .sort()
    .map((name) => {
      const title = /^# (.+)$/m.exec(readFileSync(join(root, 'docs', 'adr', name), 'utf8'))?.[1] ?? name
      return `- [${title}](adr/${name})`
    })
    .join('\n')
}

function presets(): string {
  return table(
    ['preset', 'what it does', 'steps'],
    PRESETS.map(({ name, summary, steps }) => [
      code(name),
      summary,
      steps.map(({ method, params }) => code([method, ...Object.entries(params).map(pair)].join(' '))).join(', else '),
    ]),
  )
}

function pair([key, value]: [string, unknown]): string {
  return `${key}: ${String(value)}`
}

function methods(): string {
  return table(
    ['method', 'what it does'],
    METHODS.map(({ id, summary }) => [code(id), summary]),
  )
}

function skipReasons(): string {
  return table(
    ['reason', 'the tensor is'],
    Object.entries(SKIP_REASONS).map(([reason, meaning]) => [code(reason), meaning]),
  )
}

async function commands(): Promise<string> {
  const texts: string[] = []
  for (const name of COMMAND_NAMES) {
    const module = (await import(`../src/cli/${name}.ts`)) as { command: Command }
    texts.push(`### ${name}\n\n\`\`\`\n${commandHelp(module.command).trimEnd()}\n\`\`\``)
  }
  return texts.join('\n\n')
}

function exitCodes(): string {
  return table(['status', 'meaning'], Object.entries(EXIT_CODES))
}

const PARTS: Record<string, Record<string, () => string | Promise<string>>> = {
  'docs/architecture.md': { layers, decisions },
  'docs/recipes.md': { presets, methods, 'skip reasons': skipReasons },
  'docs/cli.md': { commands, 'exit codes': exitCodes },
}

let differing = 0
for (const [file, parts] of Object.entries(PARTS)) {
  const path = join(root, file)
  const before = readFileSync(path, 'utf8')
  let text = before
  for (const [name, make] of Object.entries(parts)) {
    const begin = `<!-- begin ${name} (npm run generate) -->`
    const end = `<!-- end ${name} -->`
    const start = text.indexOf(begin)
    const stop = text.indexOf(end)
    if (start === -1 || stop < start) throw new Error(`${file} has no part "${name}" between its two comments`)
    text = `${text.slice(0, start)}${begin}\n${await make()}\n${text.slice(stop)}`
  }
  if (text === before) continue
  differing++
  if (process.argv.includes('--check')) console.error(`${file} differs from its sources: run "npm run generate"`)
  else writeFileSync(path, text)
}
if (process.argv.includes('--check') && differing > 0) process.exitCode = 1
