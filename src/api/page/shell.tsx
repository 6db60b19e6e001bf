/**
 * The page's frame; what is in it comes from `main.ts`.
 *
 * @module
 */

/** @jsxImportSource hono/jsx */

/** The HTML of the page. */
export function pageHtml(): string {
  const page = (
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <title>Paddock</title>
        <link rel="icon" href="data:," />
        <link rel="stylesheet" href="/assets/xterm.css" />
        <link rel="stylesheet" href="/assets/page/style.css" />
        <script type="module" src="/assets/page/main.ts"></script>
      </head>
      <body>
        <a class="skip" href="#main">To the content</a>
        <header>
          <h1>Paddock</h1>
          <nav aria-label="Parts">
            <a href="#/">Tasks</a>
            <a href="#/sessions">Sessions</a>
            <a href="/docs">API</a>
          </nav>
        </header>
        <div id="figures" aria-label="Figures of the server"></div>
        <main id="main" tabindex={-1}></main>
        <noscript>This page needs JavaScript.</noscript>
      </body>
    </html>
  );
  return `<!DOCTYPE html>${page.toString()}`;
}
