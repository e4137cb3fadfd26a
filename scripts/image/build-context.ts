// The build context as an engine would send it: the files of the checkout that .dockerignore lets through. Entry:
// contextFiles. https://docs.docker.com/build/concepts/context/#dockerignore-files: patterns are relative to the root, the
// last one that matches decides, and a pattern that matches a folder decides for everything below it. Exceptions (`!name`) are
// taken for entries of the top level only, so that a folder which is not sent need not be entered.

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import picomatch from 'picomatch'

interface Rule {
  keeps: boolean
  matches: (path: string) => boolean
}

export function parseIgnoreFile(text: string): Rule[] {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => {
      const keeps = line.startsWith('!')
      const pattern = (keeps ? line.slice(1) : line).replace(/^\/|\/$/g, '')
      if (keeps && pattern.includes('/')) throw new Error(`.dockerignore: ${line} is not an entry of the top level`)
      const direct = picomatch(pattern, { dot: true })
      return { keeps, matches: (path) => ancestors(path).some((part) => direct(part)) }
    })
}

/** a/b/c -> a, a/b, a/b/c */
function ancestors(path: string): string[] {
  const parts = path.split('/')
  return parts.map((_, index) => parts.slice(0, index + 1).join('/'))
}

export function isSent(rules: readonly Rule[], path: string): boolean {
  return rules.findLast((rule) => rule.matches(path))?.keeps ?? true
}

/** Paths of files relative to `root`, sorted. */
export function contextFiles(root: string): string[] {
  const rules = parseIgnoreFile(readFileSync(join(root, '.dockerignore'), 'utf8'))
  const found: string[] = []
  const walk = (folder: string) => {
    for (const entry of readdirSync(join(root, folder), { withFileTypes: true })) {
      const path = folder === '' ? entry.name : `${folder}/${entry.name}`
      if (entry.isDirectory()) {
        if (isSent(rules, path)) walk(path)
      } else if (isSent(rules, path)) {
        found.push(path)
      }
    }
  }
  walk('')
  return found.sort()
}
