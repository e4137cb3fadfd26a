// Relative links and pictures of every document lead to a file of the repository, and their anchors to a heading.

import assert from 'node:assert/strict'
import { existsSync, globSync, readFileSync, statSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { test } from 'node:test'

const root = join(import.meta.dirname, '..', '..')
const documents = [...globSync('*.md', { cwd: root }), ...globSync('docs/**/*.md', { cwd: root })]

/** Headings as anchors in the way of GitHub: lower case, punctuation dropped, spaces to dashes. */
function anchorsOf(path: string): Set<string> {
  const headings = readFileSync(path, 'utf8').matchAll(/^#+ (.+)$/gm)
  return new Set(
    [...headings].map(([, text]) =>
      text!
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
        .replaceAll(' ', '-'),
    ),
  )
}

function brokenLinks(document: string): string[] {
  const text = readFileSync(join(root, document), 'utf8').replaceAll(/```.*?```/gs, '')
  const targets = [...text.matchAll(/\]\(([^)\s]+)\)/g), ...text.matchAll(/(?:src|href)="([^"]+)"/g)].map(
    (match) => match[1]!,
  )
  return targets
    .filter((target) => !/^[a-z]+:/i.test(target))
    .filter((target) => {
      const [file, anchor] = target.split('#')
      const path = file ? join(root, dirname(document), decodeURIComponent(file)) : join(root, document)
      if (!existsSync(path) || relative(root, path).startsWith('..')) return true
      return anchor !== undefined && statSync(path).isFile() && path.endsWith('.md') && !anchorsOf(path).has(anchor)
    })
    .map((target) => `${document}: ${target}`)
}

test('there are documents to look at', () => {
  assert(documents.includes('README.md') && documents.some((name) => name.startsWith('docs')))
})

test('links between documents lead somewhere', () => {
  assert.deepEqual(documents.flatMap(brokenLinks), [])
})
