//! Words: what workers say of the steps of a watch, and whose word stands.
//!
//! Only a worker that has the handler of a step can say whether it can be worked, and how; its word stands in the
//! watch's `plan` until another takes its place. Who lacks the handler leaves it as it is. Of two workers that disagree
//! the one that can work the step is right for as long as it lives: the rows are worked, and the watch does not go to
//! and fro between `normal` and `invalid`. A word that it cannot be worked is taken back by whoever can.
//!
//! ```text
//!             own word  none    can work it    cannot
//!  word that stands
//!  none                 none    own            own
//!  can work it          stays   stays, or own  stays while its worker lives, and two minutes longer while there is
//!                               if that died   another live worker with the handler, which has still to be heard
//!  cannot               stays   own            stays, or own if its worker died
//! ```

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Step;

/// What one worker says of one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// The state that the step begins at.
    pub from: String,
    /// Its handler.
    pub handler: String,
    /// The mode it is worked in; `None`: it cannot be.
    pub mode: Option<String>,
    /// Why this mode, or why not.
    pub reason: String,
    /// It cannot be worked.
    #[serde(default)]
    pub invalid: bool,
    /// How long an attempt may take there, in milliseconds; `None`: for ever.
    pub timeout_ms: Option<i64>,
    /// Who says so.
    pub worker: i32,
}

/// A worker that has a handler of the watch, and has had a lease within the last two minutes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its number.
    pub id: i32,
    /// What it can do.
    pub handlers: Vec<String>,
    /// It takes rows.
    pub lives: bool,
}

/// Those who have a say about a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fleet {
    /// Who asks.
    pub me: i32,
    /// All of them.
    pub peers: Vec<Peer>,
}

impl Fleet {
    /// Whether a live worker other than the one who asks has this handler.
    pub fn others_have(&self, handler: &str) -> bool {
        let has = |peer: &Peer| peer.lives && peer.id != self.me && peer.handlers.iter().any(|name| name == handler);
        self.peers.iter().any(has)
    }

    fn peer(&self, id: i32) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.id == id)
    }

    /// The word that stands of a step from now on.
    pub fn settle(&self, own: Option<Word>, stood: Option<Word>) -> Option<Word> {
        let (own, stood) = match (own, stood) {
            (Some(own), Some(stood)) => (own, stood),
            (own, stood) => return own.or(stood),
        };
        let speaker = self.peer(stood.worker).filter(|_| stood.worker != self.me);
        let stays = match (stood.invalid, own.invalid) {
            (true, false) => false,
            (false, true) => speaker.is_some_and(|peer| peer.lives || self.others_have(&stood.handler)),
            _ => speaker.is_some_and(|peer| peer.lives),
        };
        Some(if stays { stood } else { own })
    }
}

/// The words that stand in a plan, if it was made for this version of its watch.
pub fn standing(plan: Option<&Value>, version: i64) -> Vec<Word> {
    let plan = plan.filter(|plan| plan["version"] == version);
    let steps = plan.and_then(|plan| plan["steps"].as_array());
    steps.into_iter().flatten().filter_map(|step| Word::deserialize(step).ok()).collect()
}

/// Steps as the plan has them, whether or not somebody has said something of each.
pub fn written(steps: &[Step], words: &[Word]) -> Value {
    let one = |step: &Step| match of(words, &step.from) {
        Some(word) => json!(word),
        None => {
            let (from, handler) = (&step.from, &step.handler);
            let reason = format!("no worker that has the handler \"{handler}\" has planned it yet");
            json!({"from": from, "handler": handler, "mode": null, "reason": reason})
        }
    };
    steps.iter().map(one).collect()
}

/// The word of the step that begins here.
pub fn of<'a>(words: &'a [Word], from: &str) -> Option<&'a Word> {
    words.iter().find(|word| word.from == from)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What worker `worker` says: that the step can be worked, or not.
    fn word(worker: i32, invalid: bool) -> Word {
        let (from, handler, reason) = ("pending".to_owned(), "http".to_owned(), String::new());
        let mode = (!invalid).then(|| "leased".to_owned());
        Word { from, handler, mode, reason, invalid, timeout_ms: None, worker }
    }

    fn fleet(me: i32, others: &[(i32, bool)]) -> Fleet {
        let peer = |&(id, lives): &(i32, bool)| Peer { id, handlers: vec!["http".to_owned()], lives };
        Fleet { me, peers: others.iter().map(peer).collect() }
    }

    #[test]
    fn who_lacks_the_handler_changes_nothing() {
        for stood in [None, Some(word(7, true)), Some(word(7, false))] {
            assert_eq!(fleet(1, &[(7, true)]).settle(None, stood.clone()), stood);
            assert_eq!(fleet(1, &[]).settle(None, stood.clone()), stood, "nor when its speaker is long gone");
        }
    }

    #[test]
    fn who_can_work_the_step_is_right_while_it_lives() {
        let others = [(1, true), (2, true)];
        for _ in 0..3 {
            assert_eq!(fleet(1, &others).settle(Some(word(1, true)), Some(word(2, false))), Some(word(2, false)));
            assert_eq!(fleet(2, &others).settle(Some(word(2, false)), Some(word(2, false))), Some(word(2, false)));
        }
        assert_eq!(fleet(2, &others).settle(Some(word(2, false)), Some(word(1, true))), Some(word(2, false)));
    }

    #[test]
    fn the_word_of_the_dead_is_taken_over() {
        let mine = |invalid| Some(word(1, invalid));
        for (own, stood) in [(true, true), (false, true), (false, false), (true, false)] {
            assert_eq!(fleet(1, &[(1, true)]).settle(mine(own), Some(word(2, stood))), mine(own), "{own} {stood}");
            assert_eq!(fleet(1, &[(2, false)]).settle(mine(own), Some(word(2, stood))), mine(own), "{own} {stood}");
        }
        // another one may be able to, and says so in time
        let others = fleet(1, &[(2, false), (3, true)]);
        assert_eq!(others.settle(mine(true), Some(word(2, false))), Some(word(2, false)));
        let third = Fleet { me: 3, ..others };
        assert_eq!(third.settle(Some(word(3, false)), Some(word(2, false))), Some(word(3, false)));
        assert_eq!(fleet(1, &[(3, true)]).settle(mine(true), Some(word(2, false))), mine(true));
    }

    #[test]
    fn what_one_said_itself_is_replaced() {
        let alone = fleet(1, &[(1, true), (2, true)]);
        assert_eq!(alone.settle(Some(word(1, true)), Some(word(1, false))), Some(word(1, true)));
        assert_eq!(alone.settle(Some(word(1, false)), Some(word(1, true))), Some(word(1, false)));
    }

    #[test]
    fn words_of_an_earlier_version_are_not_heard() {
        let step = json!(word(7, true));
        let plan = json!({"version": 3, "steps": [step, {"from": "a", "mode": null, "reason": "nobody"}]});
        assert_eq!(standing(Some(&plan), 3), [word(7, true)]);
        assert_eq!(standing(Some(&plan), 4), []);
        assert_eq!(standing(None, 1), []);
    }
}
