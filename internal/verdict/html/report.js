'use strict';
(() => {
  // Only changes: hides what is as it was in the run before.
  const toggle = document.getElementById('only-changes');
  if (toggle) {
    toggle.hidden = false;
    toggle.addEventListener('click', () => {
      const on = document.body.classList.toggle('only-changes');
      toggle.setAttribute('aria-pressed', String(on));
    });
  }

  // Where a link leads is shown, also inside of what is closed, or hidden as
  // unchanged.
  const show = () => {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (!target) return;
    if (toggle && target.closest('.only-changes .same')) toggle.click();
    for (let e = target; e; e = e.parentElement) {
      if (e.tagName === 'DETAILS') e.open = true;
    }
    const body = target.closest('section');
    const details = body && body.id === target.id && body.querySelector('details.sandbox');
    if (details) details.open = true;
    target.scrollIntoView();
    target.focus({preventScroll: true});
  };
  addEventListener('hashchange', show);
  show();

  // On paper nothing can be opened; the raw evidence is not printed.
  addEventListener('beforeprint', () => {
    for (const details of document.querySelectorAll('details:not(.raw)')) details.open = true;
  });

  // A command can be copied; where the browser does not allow it, it is
  // selected.
  for (const command of document.querySelectorAll('.command')) {
    const code = command.querySelector('code');
    const button = document.createElement('button');
    button.type = 'button';
    button.textContent = 'Copy';
    button.addEventListener('click', async () => {
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = 'Copied';
      } catch {
        getSelection().selectAllChildren(code);
        button.textContent = 'Selected';
      }
    });
    command.append(button);
  }
})();
