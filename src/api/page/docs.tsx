/**
 * The reference of the API, from its own description.
 *
 * @module
 */

/** @jsxImportSource hono/jsx */

import type { FC } from "hono/jsx";

interface Schema {
  readonly $ref?: string;
  readonly type?: string | readonly string[];
  readonly description?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly items?: Schema;
  readonly enum?: readonly unknown[];
  readonly default?: unknown;
  readonly anyOf?: readonly Schema[];
}

interface Operation {
  readonly summary?: string;
  readonly parameters?: readonly {
    readonly name: string;
    readonly in: string;
    readonly required?: boolean;
    readonly description?: string;
    readonly schema?: Schema;
  }[];
  readonly requestBody?: { readonly content?: Readonly<Record<string, { readonly schema?: Schema }>> };
  readonly responses?: Readonly<Record<string, { readonly description?: string }>>;
}

/** The parts of a description that are shown. */
export interface ApiDescription {
  readonly paths?: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components?: { readonly schemas?: Readonly<Record<string, Schema>> };
}

type Html = ReturnType<FC>;

function nameOf(ref: string): string {
  return ref.slice(ref.lastIndexOf("/") + 1);
}

/** A type in words. */
function typeWords(schema: Schema | undefined): string {
  if (schema === undefined) return "";
  if (schema.$ref !== undefined) return nameOf(schema.$ref);
  if (schema.enum !== undefined) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.anyOf !== undefined) return schema.anyOf.map(typeWords).join(" | ");
  if (schema.items !== undefined) return `${typeWords(schema.items)}[]`;
  return [schema.type ?? "any"].flat().join(" | ");
}

function Fields({ schema }: { readonly schema: Schema }): Html {
  const rows = Object.entries(schema.properties ?? {});
  return (
    <table>
      <tbody>
        {rows.map(([name, field]) => (
          <tr key={name}>
            <td>
              <code>{name}</code>
              {schema.required?.includes(name) === true ? "" : "?"}
            </td>
            <td>{typeWords(field)}</td>
            <td>
              {field.description ?? ""}
              {field.default === undefined ? "" : ` Default ${JSON.stringify(field.default)}.`}
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Body({ operation }: { readonly operation: Operation }): Html {
  const bodies = Object.entries(operation.requestBody?.content ?? {});
  return (
    <>
      {bodies.map(([type, { schema }]) => (
        <p key={type}>
          Body: <code>{type}</code>{" "}
          {schema?.$ref === undefined ? "" : <a href={`#${nameOf(schema.$ref)}`}>{nameOf(schema.$ref)}</a>}
        </p>
      ))}
    </>
  );
}

function OperationCard(
  { method, path, operation }: {
    readonly method: string;
    readonly path: string;
    readonly operation: Operation;
  },
): Html {
  return (
    <section class="card wide">
      <h2>
        <code>{method.toUpperCase()} {path}</code>
      </h2>
      <p>{operation.summary ?? ""}</p>
      <table>
        <tbody>
          {(operation.parameters ?? []).map(({ name, in: place, required, description, schema }) => (
            <tr key={name}>
              <td>
                <code>{name}</code>
                {required === true ? "" : "?"}
              </td>
              <td>{place}, {typeWords(schema)}</td>
              <td>{description ?? ""}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <Body operation={operation} />
      <table>
        <tbody>
          {Object.entries(operation.responses ?? {}).map(([status, { description }]) => (
            <tr key={status}>
              <td>
                <code>{status}</code>
              </td>
              <td>{description ?? ""}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

/** The HTML of the reference. */
export function docsHtml({ paths = {}, components }: ApiDescription): string {
  const operations = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ method, path, operation }))
  );
  const page = (
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <title>Paddock: API</title>
        <link rel="icon" href="data:," />
        <link rel="stylesheet" href="/assets/page/style.css" />
      </head>
      <body>
        <header>
          <h1>Paddock</h1>
          <nav aria-label="Parts">
            <a href="/">Tasks</a>
            <a href="/docs" aria-current="page">API</a>
            <a href="/openapi.json">openapi.json</a>
          </nav>
        </header>
        <main>
          <p>
            Every request carries{" "}
            <code>Authorization: Bearer TOKEN</code>. Errors are problem documents (RFC 9457) with a stable
            {" "}
            <code>code</code>.
          </p>
          {operations.map((one) => <OperationCard key={one.method + one.path} {...one} />)}
          {Object.entries(components?.schemas ?? {}).map(([name, schema]) => (
            <section class="card wide" id={name} key={name}>
              <h2>{name}</h2>
              <p>{schema.description ?? ""}</p>
              <Fields schema={schema} />
            </section>
          ))}
        </main>
      </body>
    </html>
  );
  return `<!DOCTYPE html>${page.toString()}`;
}
