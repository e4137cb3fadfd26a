// Writes the tables of docs/benchmark.md from bench/results/bench-*.json, which `npm run bench` leaves. The tables stand between
// `<!-- begin results -->` and `<!-- end results -->`. With --check nothing is written, and the exit status is 1 on a difference.

import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type BenchDocument, showGoal, showMet, showValue } from '../bench/figures.ts'

const root = join(import.meta.dirname, '..')
const results = join(root, 'bench', 'results')
const page = join(root, 'docs', 'benchmark.md')

function section(document: BenchDocument): string {
  const { machine, device, versions, settings, figures, measuredAt } = document
  const python = versions.python['onnxruntime']
  const facts = [
    `${machine.cpu}, ${machine.cores} cores, ${Math.round(machine.memoryBytes / 2 ** 30)} GiB, ${machine.system}`,
    `${device.driver}`,
    `Node ${versions.node}, webgpu ${versions.webgpu}${python ? `, onnxruntime ${python} for Python ${versions.python['python']}` : ''}`,
    `medians of ${settings.runs} runs, ${measuredAt.slice(0, 10)}`,
  ]
  const line = (cells: string[]) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`
  const rows = figures.map((figure) =>
    line([figure.name, figure.measured, showValue(figure), showGoal(figure), showMet(figure)]),
  )
  const table = [line(['figure', 'measured', 'value', 'goal', 'met']), '|---|---|---|---|---|', ...rows].join('\n')
  return `### ${device.adapter}\n\n${facts.map((fact) => `- ${fact}`).join('\n')}\n\n${table}`
}

const documents = (existsSync(results) ? readdirSync(results, { withFileTypes: true }) : [])
  .filter(({ name }) => /^bench-(?!quick-).*\.json$/.test(name))
  .map(({ name }) => JSON.parse(readFileSync(join(results, name), 'utf8')) as BenchDocument)
const before = readFileSync(page, 'utf8')
const tables = documents.length > 0 ? documents.map(section).join('\n\n') : 'No results are checked in.'
const after = before.replace(
  /(<!-- begin results[^>]*-->\n)[\s\S]*?(<!-- end results -->)/,
  (_match, begin: string, end: string) => `${begin}\n${tables}\n\n${end}`,
)
if (after !== before && process.argv.includes('--check')) {
  console.error('docs/benchmark.md differs from bench/results: run npm run generate')
  process.exitCode = 1
} else if (after !== before) writeFileSync(page, after)
