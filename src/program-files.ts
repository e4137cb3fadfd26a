// Where the files of the program itself lie. Its modules run from src/*.ts in a checkout, from src/*.js in the bundle for hosts
// without network, and from dist/*.js in the npm package and the image, where scripts/build.ts joins them into fewer files: no
// module may count on the folder that it was written in. Entries: packageFile, codeFile.

import { existsSync } from 'node:fs'
import { dirname, extname, join, relative, sep } from 'node:path'

/** The folder of package.json, with shaders and code below it. */
const packageFolder = findPackageFolder(import.meta.dirname)
const codeFolder = join(packageFolder, relative(packageFolder, import.meta.dirname).split(sep)[0]!)

function findPackageFolder(start: string): string {
  let folder = start
  while (!existsSync(join(folder, 'package.json'))) {
    const above = dirname(folder)
    if (above === folder) throw new Error(`no package.json beside or above ${start}`)
    folder = above
  }
  return folder
}

/** Absolute path of a file of the package: `shaders/statistics.wgsl`. */
export function packageFile(path: string): string {
  return join(packageFolder, path)
}

/** Absolute path of a code file by its place below src, without its ending, which differs: `jobs/worker`. */
export function codeFile(name: string): string {
  return join(codeFolder, `${name}${extname(import.meta.filename)}`)
}
