//! The layers of an install: each begun when its time has come and brought to its end, several at
//! the same time where the site allows it.

use super::Exit;
use super::ending::Ending;
use super::install::one_layer;
use super::order::{Next, Order, State};
use super::underway::Underway;
use crate::event::EventKind;
use crate::resource::Mode;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::watch;

/// Where all layers are, and whether anything may still be injected.
#[derive(Debug)]
struct News {
    states: Vec<State>,
    /// How a layer ended after which no fault is injected any more.
    halted: Option<Exit>,
}

/// One layer among those in hand.
pub(super) struct Place<'a> {
    index: usize,
    order: &'a Order<'a>,
    news: &'a watch::Sender<News>,
}

impl Place<'_> {
    /// Waits until nothing else of the run is in hand; nothing else is begun until this layer has
    /// ended. `told` is called where that takes a while.
    ///
    /// # Errors
    /// How a layer ended after which no fault may be injected.
    pub(super) async fn alone(&self, told: impl FnOnce()) -> Result<(), Exit> {
        self.news.send_modify(|news| news.states[self.index] = State::Ready);
        let mut told = Some(told);
        let mut changes = self.news.subscribe();
        loop {
            if let Some(exit) = changes.borrow_and_update().halted {
                return Err(exit);
            }
            let granted = self.news.send_if_modified(|news| {
                let may = self.order.may_be_alone(self.index, &news.states);
                if may {
                    news.states[self.index] = State::Alone;
                }
                may
            });
            if granted {
                return Ok(());
            }
            if let Some(told) = told.take() {
                told();
            }
            // The sender outlives every layer.
            drop(changes.changed().await);
        }
    }
}

/// Begins the layers in their order and waits for all that were begun. What each came to, and which
/// were not begun, is added to `ending`.
pub(super) async fn work(run: &Underway<'_>, ending: &mut Ending<'_>) {
    let Underway { request, events, stop, .. } = run;
    let most = match request.mode {
        Mode::Apply => request.site.config.run.parallel_layers as usize,
        // A look is read from top to bottom, and a kept plan compared with it.
        Mode::Check => 1,
    };
    let order = Order::new(request.site, &request.layers, most);
    let states = vec![State::Waiting; request.layers.len()];
    let news = watch::Sender::new(News { states, halted: None });
    let set = |index: usize, state| news.send_modify(|news| news.states[index] = state);
    let mut in_hand = FuturesUnordered::new();
    let mut over = false;
    loop {
        while !over && !stop.wished() {
            let next = order.next(&news.borrow().states);
            let index = match next {
                Some(Next::Begin(index)) => index,
                Some(Next::Skip(index, below)) => {
                    let (layer, below) = (order.name(index), order.name(below));
                    let why = format!("it requires `{below}`, which is not green");
                    ending.skipped(layer, &why);
                    events.emit(EventKind::LayerSkipped { layer: layer.to_owned(), why });
                    set(index, State::Failed);
                    continue;
                }
                None => break,
            };
            let layer = request.layers[index];
            let Some(hosts) = ending.hosts_of_next(layer, request, events).await else {
                over = true;
                break;
            };
            if hosts.is_empty() {
                set(index, State::Done);
                continue;
            }
            set(index, State::Working);
            let place = Place { index, order: &order, news: &news };
            in_hand.push(async move { (index, one_layer(run, layer, &hosts, &place).await) });
        }
        // Those that are in hand come to their own end, whatever became of another.
        let Some((index, end)) = in_hand.next().await else { break };
        let looking_on = request.mode == Mode::Check && end.exit == Exit::Differences;
        let state = if end.exit == Exit::Done || looking_on { State::Done } else { State::Failed };
        news.send_modify(|news| {
            news.states[index] = state;
            if ends_the_run(end.exit) {
                news.halted.get_or_insert(end.exit);
            }
        });
        over |= state == State::Failed && (!request.keep_going || ends_the_run(end.exit));
        ending.layer(order.name(index), end);
    }
    drop(in_hand);
    for (index, state) in news.borrow().states.iter().enumerate() {
        if *state == State::Waiting {
            ending.not_begun(order.name(index));
        }
    }
}

/// True for what no other layer is begun after, whatever was asked for: a fault that may still be in
/// the fleet, a record that could not be kept, and the operator's wish.
const fn ends_the_run(exit: Exit) -> bool {
    matches!(exit, Exit::NotHealed | Exit::Internal | Exit::Interrupted)
}
