// Imported before any reader: the imports of node:fs and node:fs/promises inside of src/formats become memory-files.ts. A
// name that memory-files.ts lacks fails when the reader is loaded, so that no reader reads around it without a word.

import { registerHooks } from 'node:module'

const FORMATS = new URL('../../src/formats/', import.meta.url).href
const MEMORY_FILES = new URL('memory-files.ts', import.meta.url).href

registerHooks({
  resolve(specifier, context, next) {
    const replaced = specifier === 'node:fs' || specifier === 'node:fs/promises'
    if (replaced && context.parentURL?.startsWith(FORMATS) === true) return { url: MEMORY_FILES, shortCircuit: true }
    return next(specifier, context)
  },
})
