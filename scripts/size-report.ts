// Prints where the code is: files and lines per folder of src, shaders, test and bench, and the files that grow past what one
// owner can hold. `node scripts/size-report.ts`

import { globSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

/** A source file past this has two owners; test/architecture/layers.test.ts refuses it. */
const LONG_FILE_LINES = 600

const root = join(import.meta.dirname, '..')
const files = globSync('{src,shaders,test,bench,scripts}/**/*.{ts,mjs,wgsl,py}', { cwd: root }).map((path) => ({
  path,
  lines: readFileSync(join(root, path), 'utf8').split('\n').length - 1,
}))

const folders = Map.groupBy(files, ({ path }) => dirname(path))
console.log('lines  files  longest  folder')
for (const [folder, inside] of [...folders].sort(([a], [b]) => (a < b ? -1 : 1))) {
  const lines = inside.reduce((sum, file) => sum + file.lines, 0)
  const longest = Math.max(...inside.map((file) => file.lines))
  console.log(`${pad(lines, 5)}  ${pad(inside.length, 5)}  ${pad(longest, 7)}  ${folder}`)
}
const total = files.reduce((sum, file) => sum + file.lines, 0)
console.log(`${pad(total, 5)}  ${pad(files.length, 5)}           all`)

const long = files.filter(({ lines }) => lines > LONG_FILE_LINES).sort((a, b) => b.lines - a.lines)
for (const { path, lines } of long) console.log(`over ${LONG_FILE_LINES} lines: ${path} (${lines})`)

function pad(value: number, width: number): string {
  return String(value).padStart(width)
}
