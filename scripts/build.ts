// npm run build: dist, the compiled program that the npm package and the image hold:
//   node scripts/build.ts [--output dist]
// Modules are joined into one file for each entry and what entries share, packages of many small modules with them: a process that
// loads a dozen files starts sooner than one that loads two hundred (docs/adr/0012-joined-modules.md). Types of what can be imported are
// made by the compiler, and THIRD_PARTY_LICENSES names the packages inside.

import { spawnSync } from 'node:child_process'
import * as fs from 'node:fs'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { build, type Plugin } from 'esbuild'
import { licenceList, partOfPackage } from './bundle/licence-list.ts'

const ROOT = join(import.meta.dirname, '..')

/** What is started or imported by its path: the command, the children of src/program-files.ts, and `exports` of package.json. */
const ENTRIES = [
  'cli',
  'jobs/worker',
  'jobs/inspect',
  'jobs/probe',
  'validate/inference',
  'validate/parent-watch',
  'index',
  'client/index',
  'client-node',
]

/** Packages of JavaScript modules in the dozens, on the way of every command and child. All others stay where npm puts them. */
const JOINED = ['@bufbuild/protobuf', 'onnx-buf', 'zod']

/** Zod's messages in 63 other languages: half a megabyte that nothing asks for. */
const withoutLocales: Plugin = {
  name: 'without locales',
  setup(bundling) {
    bundling.onResolve({ filter: /^\.\.\/locales\/index\.js$/ }, () => ({ path: 'locales', namespace: 'none' }))
    bundling.onLoad({ filter: /.*/, namespace: 'none' }, () => ({ contents: 'export {}' }))
  },
}

const DEFAULT_OUTPUT = 'dist'
const { values: options } = parseArgs({ options: { output: { type: 'string', default: DEFAULT_OUTPUT } } })
const output = resolve(ROOT, options.output)
const { dependencies } = JSON.parse(fs.readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
  dependencies: Record<string, string>
}

/** Resolves with the paths of what was joined. */
async function joinModules(): Promise<string[]> {
  const { metafile } = await build({
    absWorkingDir: ROOT,
    entryPoints: ENTRIES.map((name) => `src/${name}.ts`),
    outbase: 'src',
    outdir: output,
    chunkNames: 'parts/[name]-[hash]',
    bundle: true,
    splitting: true,
    // node_modules may be a link
    preserveSymlinks: true,
    // the class that users see as AppError must not be called _AppError
    keepNames: true,
    format: 'esm',
    platform: 'node',
    target: 'node24',
    external: Object.keys(dependencies).filter((name) => !JOINED.includes(name)),
    plugins: [withoutLocales],
    metafile: true,
    logLevel: 'warning',
  })
  const paths = Object.keys(metafile.inputs)
  const foreign = paths.filter((path) => path.includes('node_modules/') && !JOINED.some((name) => isOf(name, path)))
  if (foreign.length > 0) throw new Error(`the program imports what it does not depend on: ${foreign[0]}`)
  return paths
}

function isOf(name: string, path: string): boolean {
  return path.startsWith(`node_modules/${name}/`)
}

/** esbuild looks at no type: the compiler checks the whole program, and declares what can be imported. */
function checkAndDeclareTypes(): void {
  const compiler = join(ROOT, 'node_modules/typescript/bin/tsc')
  for (const args of [['tsconfig.build.json'], ['tsconfig.types.json', '--outDir', output]]) {
    const { status } = spawnSync(process.execPath, [compiler, '-p', ...args], { cwd: ROOT, stdio: 'inherit' })
    if (status !== 0) throw new Error(`tsc -p ${args[0]} ended with ${status}`)
  }
}

/** With the notices at the top of the modules themselves, which joining leaves out. */
function nameLicences(joined: readonly string[]): void {
  const parts = JOINED.map((name) => {
    const path = `node_modules/${name}`
    const { version } = JSON.parse(fs.readFileSync(join(ROOT, path, 'package.json'), 'utf8')) as { version: string }
    const part = partOfPackage(ROOT, { path, name, version })
    const notices = joined.filter((module) => isOf(name, module)).flatMap(noticeOf)
    const texts = [...new Set([...part.texts, ...notices])]
    if (texts.length === 0) throw new Error(`${name} says nothing of its licence that could be passed on`)
    return { ...part, texts }
  })
  fs.writeFileSync(join(output, 'THIRD_PARTY_LICENSES'), licenceList('these files', parts))
}

function noticeOf(module: string): string[] {
  const comments = /^(?:\/\/.*\n|\s*\n)+/.exec(fs.readFileSync(join(ROOT, module), 'utf8'))?.[0] ?? ''
  const blocks = comments.split(/\n\s*\n/).filter((block) => /copyright|SPDX/i.test(block))
  return blocks.map((block) => block.replaceAll(/^\/\/ ?/gm, '').trim())
}

if (options.output !== DEFAULT_OUTPUT && fs.existsSync(output)) throw new Error(`${output} exists: name a new folder`)
fs.rmSync(output, { recursive: true, force: true })
checkAndDeclareTypes()
nameLicences(await joinModules())
