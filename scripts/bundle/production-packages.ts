// The packages that the product needs at run time, from package-lock.json. Entry: productionPackages.

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

export interface InstalledPackage {
  /** Folder relative to the checkout, such as node_modules/express. */
  path: string
  name: string
  version: string
}

interface LockEntry {
  version?: string
  dev?: boolean
  devOptional?: boolean
  optional?: boolean
}

/**
 * Sorted by path. Without those that are only optional: clients of Redis, for a store of @tus/server that is not used here.
 * Throws for one that is not installed.
 */
export function productionPackages(root: string): InstalledPackage[] {
  const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, LockEntry>
  }
  return Object.entries(lock.packages)
    .filter(([path, { dev, devOptional, optional }]) => path !== '' && !dev && !devOptional && !optional)
    .map(([path, { version = '' }]) => {
      if (!existsSync(join(root, path, 'package.json'))) throw new Error(`${path} is not installed; run npm ci`)
      return { path, name: path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length), version }
    })
    .sort((a, b) => (a.path < b.path ? -1 : 1))
}
