//! Owns the requests that a release serves: an order, another name, another email, a new customer; each one transaction.

use super::shop::{Customer, Shop, Whole, last_name};
use zeolite_client::{Db, Error, Ref, Tx};

/// What was done, as the process tells it: one line each.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Done {
    Edited,
    Made,
}

pub(crate) struct Clerk<T> {
    db: Db,
    shop: Shop<T>,
    customers: Vec<Ref<T>>,
    dice: fastrand::Rng,
    /// What its new names end with: no two processes have one.
    who: String,
    served: u64,
}

impl<T: Customer> Clerk<T> {
    pub(crate) async fn new(db: &Db, who: u32) -> Result<Clerk<T>, Error> {
        let shop: Shop<T> = db.run(async |tx| Shop::open(&tx).await).await?;
        let customers = shop.customers(&db.now()).await?;
        let dice = fastrand::Rng::with_seed(u64::from(who));
        Ok(Clerk { db: db.clone(), shop, customers, dice, who: who.to_string(), served: 0 })
    }

    /// Serves one request.
    pub(crate) async fn serve(&mut self) -> Result<Done, Error> {
        self.served += 1;
        let customer = self.customers[self.dice.usize(0..self.customers.len())];
        let unique = format!("{}.{}", self.served, self.who);
        let kind = self.dice.u32(0..8);
        let (shop, unique) = (&self.shop, &unique);
        let made = self.db.run(async |tx| {
            shop.edits.add(&tx, 1)?;
            if kind == 0 {
                return shop.make(&tx, unique).await.map(Some);
            }
            let before: Whole = tx.load(customer).await?.into();
            let mut after = before.clone();
            after.edits += 1;
            match kind {
                1..=3 => after.name = format!("First Last{unique}"),
                4 => after.email = format!("{unique}@shop"),
                _ => {}
            }
            shop.changed(&tx, customer, &before, &after).await?;
            tx.set(customer, &T::from(after)).map(|()| None)
        });
        let made = made.await?;
        self.customers.extend(made);
        Ok(if made.is_some() { Done::Made } else { Done::Edited })
    }
}

impl<T: Customer> Shop<T> {
    async fn make(&self, tx: &Tx, unique: &str) -> Result<Ref<T>, Error> {
        let whole = Whole { name: format!("First Last{unique}"), email: format!("{unique}@shop"), edits: 1 };
        let customer = tx.create(&T::from(whole.clone())).await?;
        self.names.insert(tx, &whole.name, customer)?;
        if T::KEEPS_INDEXES {
            self.lasts.insert(tx, &last_name(&whole.name), customer)?;
            self.emails.insert(tx, &whole.email, &customer).await?.or_refuse()?;
        }
        Ok(customer)
    }

    /// The indexes follow.
    async fn changed(&self, tx: &Tx, customer: Ref<T>, before: &Whole, after: &Whole) -> Result<(), Error> {
        if before.name != after.name {
            self.names.remove(tx, &before.name, customer)?;
            self.names.insert(tx, &after.name, customer)?;
            if T::KEEPS_INDEXES {
                self.lasts.remove(tx, &last_name(&before.name), customer)?;
                self.lasts.insert(tx, &last_name(&after.name), customer)?;
            }
        }
        if T::KEEPS_INDEXES && before.email != after.email {
            // It may be in nobody's index yet, or there for another.
            self.emails.release(tx, &before.email, customer).await?;
            self.emails.insert(tx, &after.email, &customer).await?.or_refuse()?;
        }
        Ok(())
    }
}
