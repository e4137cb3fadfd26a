// Holds the import lines of src/ against the table in layers.ts. Type imports count as imports.

import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { dirname, join, relative, sep } from 'node:path'
import { test } from 'node:test'
import { FOR_CHILDREN_ONLY, LAYERS, NATIVE } from './layers.ts'

const root = join(import.meta.dirname, '..', '..')
const src = join(root, 'src')

interface Import {
  file: string
  specifier: string
  /** Erased before the program runs. */
  typeOnly: boolean
}

const files = globSync('**/*.ts', { cwd: src }).map((path) => join(src, path))

/** Import and export-from lines, dynamic imports with a literal, and child entries named by URL are not imports. */
function importsOf(file: string): Import[] {
  const text = readFileSync(file, 'utf8')
  const found = text.matchAll(
    /(?:^|\n)\s*(?:import|export)\b[^'"\n]*(?:\n[^'"\n]*)*?from\s*'([^']+)'|\bimport\(\s*'([^']+)'\s*\)|(?:^|\n)import\s*'([^']+)'/g,
  )
  return [...found].map((match) => ({
    file,
    specifier: (match[1] ?? match[2] ?? match[3])!,
    typeOnly: /^\s*(import|export) type\b/.test(match[0]),
  }))
}

function layerOf(path: string): string {
  const name = relative(src, path).split(sep).join('/').replace(/\.ts$/, '')
  return (
    Object.keys(LAYERS)
      .filter((layer) => name === layer || name.startsWith(`${layer}/`))
      .sort((a, b) => b.length - a.length)[0] ?? name
  )
}

const imports = files.flatMap(importsOf)
const local = imports
  .filter(({ specifier }) => specifier.startsWith('.'))
  .map(({ file, specifier, typeOnly }) => ({ from: file, to: join(dirname(file), specifier), typeOnly }))
const show = (path: string) => relative(root, path)

test('every file of src belongs to a layer of the table', () => {
  const strangers = files.filter((file) => !(layerOf(file) in LAYERS) && !file.endsWith('.d.ts'))
  assert.deepEqual(strangers.map(show), [])
})

test('imports point only to layers that the table allows', () => {
  const wrong = local.filter(({ from, to }) => {
    const layer = layerOf(from)
    const target = layerOf(to)
    return target !== layer && !LAYERS[layer]?.includes(target)
  })
  assert.deepEqual(
    wrong.map(({ from, to }) => `${show(from)} -> ${show(to)}`),
    [],
  )
})

test('the table itself has no cycle', () => {
  const state = new Map<string, 'open' | 'done'>()
  const visit = (layer: string, path: string[]): void => {
    assert.notEqual(state.get(layer), 'open', `cycle: ${[...path, layer].join(' -> ')}`)
    if (state.get(layer) === 'done') return
    state.set(layer, 'open')
    for (const next of LAYERS[layer] ?? []) visit(next, [...path, layer])
    state.set(layer, 'done')
  }
  for (const layer of Object.keys(LAYERS)) visit(layer, [])
})

test('files import one another without cycles', () => {
  const graph = Map.groupBy(local, ({ from }) => from)
  const state = new Map<string, 'open' | 'done'>()
  const cycles: string[] = []
  const visit = (file: string, path: string[]): void => {
    if (state.get(file) === 'open') cycles.push([...path.slice(path.indexOf(file)), file].map(show).join(' -> '))
    if (state.has(file)) return
    state.set(file, 'open')
    for (const { to } of graph.get(file) ?? []) visit(to, [...path, file])
    state.set(file, 'done')
  }
  for (const file of files) visit(file, [])
  assert.deepEqual(cycles, [])
})

test('what a server or a command line loads reaches no native addon and no reader of model bytes', () => {
  const reached = new Set<string>()
  const visit = (file: string): void => {
    if (reached.has(file)) return
    reached.add(file)
    for (const { from, to, typeOnly } of local) if (from === file && !typeOnly) visit(to)
  }
  visit(join(src, 'cli.ts'))
  const forbidden = [...reached].filter((file) => FOR_CHILDREN_ONLY.has(layerOf(file)))
  assert.deepEqual(forbidden.map(show), [])
  assert(reached.has(join(src, 'main.ts')), 'the walk did not reach the server')
})

test('each native addon is loaded by one file alone', () => {
  const wrong = imports.filter(({ file, specifier }) => {
    const owner = NATIVE[specifier.split('/')[0]!]
    return owner !== undefined && show(file) !== owner
  })
  assert.deepEqual(
    wrong.map(({ file, specifier }) => `${show(file)} imports ${specifier}`),
    [],
  )
})

test('a file past 600 lines has two owners and is to be split by case', () => {
  const long = files.filter((file) => readFileSync(file, 'utf8').split('\n').length > 601)
  assert.deepEqual(long.map(show), [])
})
