// The --report argument: the report as JSON or as a self-contained page, by the ending of the file.

import { rename, writeFile } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { AppError } from '../errors.ts'
import { makeFolder, refuseExisting } from '../local/output-files.ts'
import type { Report } from '../validate/report.ts'
import { type Command, usage } from './command.ts'

export interface ReportTarget {
  path: string
  form: 'json' | 'html'
}

/** Before any work is done. Throws usage, conflict. */
export async function checkReportOption(
  command: Command,
  argument: string | undefined,
  force: boolean,
): Promise<ReportTarget | null> {
  if (argument === undefined) return null
  const form = /\.(json|html?)$/i.exec(argument)?.[1]?.toLowerCase()
  if (form === undefined) throw usage(command, `--report must end in .json or .html, found "${argument}"`)
  const path = resolve(argument)
  if (!force) await refuseExisting(path)
  return { path, form: form === 'json' ? 'json' : 'html' }
}

/** Throws store_failed. */
export async function writeReport(target: ReportTarget | null, report: Report): Promise<void> {
  if (target === null) return
  const text =
    target.form === 'json'
      ? `${JSON.stringify(report, null, 2)}\n`
      : (await import('../validate/report-html.ts')).renderReportHtml(report)
  const temporary = `${target.path}.${process.pid}.tmp`
  try {
    await makeFolder(dirname(target.path))
    await writeFile(temporary, text)
    await rename(temporary, target.path)
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? String(error)
    throw new AppError('store_failed', `the report "${target.path}" cannot be written (${code})`, {}, error)
  }
}
