//! Ctrl-C and the other ways in which a run is asked to stop.

use tokio::sync::mpsc;

use crate::apply::Signal;

/// What the operating system tells a program that should stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// Ctrl-C.
    Pressed,
    /// SIGTERM: of somebody who may well repeat it, or of a pipeline that is cancelled.
    Terminate,
}

/// Signs as they come.
pub(super) fn signs() -> std::io::Result<mpsc::UnboundedReceiver<Sign>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // A run whose terminal is gone goes on to its end: nobody else would take back what fails.
    drop(signal(SignalKind::hangup())?);
    let (tell, signs) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let sign = tokio::select! {
                Some(()) = interrupt.recv() => Sign::Pressed,
                Some(()) = terminate.recv() => Sign::Terminate,
                else => return,
            };
            if tell.send(sign).is_err() {
                return;
            }
        }
    });
    Ok(signs)
}

/// Tells a run that the operator wants to stop. Returns when the program is to end at once: when Ctrl-C is pressed after
/// that, or where no run listens any more.
pub(super) async fn interrupts(
    signals: &mpsc::UnboundedSender<Signal>,
    mut signs: mpsc::UnboundedReceiver<Sign>,
) -> bool {
    let mut told = false;
    while let Some(sign) = signs.recv().await {
        if signals.is_closed() || (told && sign == Sign::Pressed) {
            return true;
        }
        if !told && signals.send(Signal::Interrupt).is_err() {
            return true;
        }
        told = true;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_is_kept_by_a_run_that_is_over() {
        let (signals, mut incoming) = mpsc::unbounded_channel();
        use Sign::{Pressed, Terminate};
        let come = |signs: &[Sign]| {
            let (tell, come) = mpsc::unbounded_channel();
            signs.iter().for_each(|sign| tell.send(*sign).unwrap());
            come
        };
        for first in [Pressed, Terminate] {
            assert!(!interrupts(&signals, come(&[first])).await, "the run stops");
            assert!(matches!(incoming.try_recv(), Ok(Signal::Interrupt)));
            assert!(interrupts(&signals, come(&[first, Pressed])).await, "twice");
            assert!(matches!(incoming.try_recv(), Ok(Signal::Interrupt)));
        }
        let again = [Pressed, Terminate, Terminate];
        assert!(
            !interrupts(&signals, come(&again)).await,
            "it stops already"
        );
        assert!(incoming.try_recv().is_ok() && incoming.try_recv().is_err());
        drop(incoming);
        assert!(interrupts(&signals, come(&[Terminate])).await, "it is over");
    }
}
